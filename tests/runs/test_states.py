"""The table of states: what it allows, and that nothing else can happen."""

import pytest

from labctl.runs.states import ENDED, LIT, TRANSITIONS, IllegalTransition, State, StateMachine


def machine_at(state):
    seen = []
    machine = StateMachine(lambda state, reason: seen.append((state, reason)))
    machine.state = state
    return machine, seen


@pytest.mark.parametrize("before", State)
@pytest.mark.parametrize("after", State)
def test_only_what_the_table_allows_can_happen(before, after):
    machine, seen = machine_at(before)
    if before is after:
        machine.to(after)
        assert seen == []
    elif after in TRANSITIONS[before]:
        machine.to(after, "why")
        assert (machine.state, seen) == (after, [(after, "why")])
    else:
        with pytest.raises(IllegalTransition, match=f"{before} cannot become {after}"):
            machine.to(after)
        assert (machine.state, seen) == (before, [])


def test_every_state_that_has_not_ended_leads_to_an_end_through_finishing():
    for state in set(State) - ENDED - {State.FINISHING}:
        assert State.FINISHING in TRANSITIONS[state]
    assert TRANSITIONS[State.FINISHING] == ENDED
    assert all(not TRANSITIONS[state] for state in ENDED)


def test_dark_states_are_left_for_light_only_by_running_on():
    for dark in (State.PAUSED, State.SUSPENDED):
        assert dark not in LIT
        assert TRANSITIONS[dark] & LIT == {State.RUNNING}
