"""The prompts that a client can offer its user. They hold no stored text: the tools fetch that."""


def plan_day() -> str:
    """Plan today from the open tasks."""
    return (
        "Plan my day. Call list_tasks with status=pending and sort=due, then with sort=priority."
        " Name what is overdue first, then what is due today, then at most three high-priority"
        " tasks that fit. Ask before you change anything."
    )


def weekly_review() -> str:
    """Look back on the week: what was done, what moved, what is stuck."""
    return (
        "Do a weekly review with me. Call get_history with since = seven days ago, then list_tasks"
        " with status=pending and sort=updated. Tell me what was completed, what was changed more"
        " than once, and what nobody has touched. Suggest what to drop, and ask before you change"
        " anything."
    )


ALL = (plan_day, weekly_review)
