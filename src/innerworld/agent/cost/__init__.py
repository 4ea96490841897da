"""The cost: intrinsic terms, guardrails, and a critic that is learnt."""
