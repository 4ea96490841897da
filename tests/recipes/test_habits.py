"""What a preset begins with in a world is what its paper says."""

from __future__ import annotations

from innerworld.recipes.habits import HABITS, habits


def test_presets_practise_as_their_papers_did():
    online, train = habits("dreamer", "v3-12m")
    assert (online.batch, online.length, train.optimiser, train.lr, train.agc) == (16, 64, "laprop", 4e-5, 0.3)
    assert (train.warmup, train.clip_grad) == (1000, 0)
    assert habits("dreamer", "v1")[0].action_repeat == 2 and habits("dreamer", "v2")[1].clip_grad == 100
    assert (habits("dreamer", "v2")[1].lr, habits("dreamer", "v2-dmc")[1].lr) == (2e-4, 3e-4)
    assert habits("dreamer", "v2-dmc")[0].steps_per_update == 5 and habits("dreamer", "v2")[0].steps_per_update == 16


def test_sequence_models_practise_as_theirs():
    storm, drama, transdreamer = (habits("dreamer", name) for name in ("storm", "drama", "transdreamer"))
    assert [each[0].steps_per_update for each in (storm, drama, transdreamer)] == [1, 1, 16]
    assert drama[0].sampling == "frequency" and (drama[0].length, storm[0].length) == (128, 64)
    assert (storm[1].lr, storm[1].clip_grad, storm[1].optimiser) == (1e-4, 1000, "adamw")
    assert (drama[1].lr, drama[1].clip_grad, drama[1].agc, drama[1].optimiser) == (4e-5, 1000, 0, "laprop")


def test_diamond_learns_four_times_a_step():
    online, train = habits("dreamer", "diamond")
    assert (online.batch, online.length, online.steps_per_update) == (32, 19, 0.25)
    assert (train.lr, train.weight_decay, train.warmup) == (1e-4, 1e-2, 100)


def test_small_agents_practise_as_the_control_preset_does():
    assert habits("dreamer", "small-attention") == habits("dreamer", "small-mamba2") == habits("dreamer", "control")
    assert habits("dreamer", "control")[0].envs == 8 and habits("dreamer", "control")[1].lr == 1e-3


def test_a_preset_of_another_name_begins_as_the_first():
    assert habits("dreamer", None) == habits("dreamer", "v3") == habits("dreamer", "cpu") == habits("dreamer", "v30")


def test_the_best_checkpoint_is_one_that_was_tried():
    for online, train in [habits("another", None), *(its for known in HABITS.values() for its in known.values())]:
        assert train.best == "eval_return" and train.best_is_highest
        assert train.save_every % online.eval_every == 0
