"""The classical policies that a learned one is held against, and the clairvoyant above them.

========================================  ==========================================================
``round_robin``, ``random``               one stream after the other; a random set of streams
``equal_split``, ``proportional``         all streams; equal chunks, or in proportion to capacity
``score``                                 bandwidth x success / (latency x (1 + congestion)), best one;
                                          the two best beyond 100 MB below priority 0.5
``single_best``                           the stream that would finish the whole task first (least work
                                          left, for unequal servers: Harchol-Balter, Crovella and Murta,
                                          J. Parallel and Distributed Computing 59, 1999)
``min_rtt``                               least latency first: the kernel's default MPTCP scheduler
                                          (Paasch et al., "Experimental evaluation of multipath TCP
                                          schedulers", CSWS 2014), a task at a time
``least_completion_time``                 all subsets by water-filling; the least estimated completion time
                                          (as earliest completion first, Lim et al., "ECF: an MPTCP path
                                          scheduler", CoNEXT 2017, for whole tasks)
``least_completion_time_proportional``    the same with chunks in proportion to capacity
``size_interval``                         task assignment by size (SITA; Harchol-Balter et al., as above),
                                          cut-offs and order tuned on training seeds
``adaptive_size_interval``                the same with cut-offs that follow the sizes and rates observed
                                          (``_core.size_interval``)
``first_policy_iteration``                the set that costs its queues the least slowdown, by size intervals
                                          (Hyytia, Aalto and Penttinen, SIGMETRICS 2012;
                                          ``_core.first_policy_iteration``)
``least_marginal_cost``                   the set of the least cost for the task and those expected next, one
                                          step of policy improvement (``_core.marginal_cost``)
``auto``                                  the rule that measures best, as ``TaskPartitioner`` has it
``pull``                                  all streams; one that runs dry takes over what others have left
                                          (work stealing, Blumofe and Leiserson, J. ACM 46(5), 1999)
``linucb``                                contextual bandit on the same state (Li et al., WWW 2010), its
                                          exploration tuned, trained on training seeds
``oracle``                                tries every action in a copy of the world (``_core.sim.lookahead``)
========================================  ==========================================================
"""

from __future__ import annotations

from itp.models.spec import HARD_DEADLINES
from itp.sim.choice import Choice
from itp.sim.simulator import Simulator


class Rule:
    """One of the compiled rules.

    Parameters
    ----------
    name : str
        Of ``itp.sim.simulator.RULES``.
    hard_deadlines : bool or None
        It gives way to the least completion time where it breaks a deadline that some action meets. None: as
        a ``TaskPartitioner`` would without being told.
    """

    def __init__(self, name: str, *, hard_deadlines: bool | None = False) -> None:
        self.name = name + (HARD_DEADLINES if hard_deadlines else "")
        self._rule = name
        self._hard_deadlines = hard_deadlines

    def begin(self, sim: Simulator) -> None:
        """Nothing to prepare."""

    def act(self, sim: Simulator) -> Choice:
        return sim.choose(self._rule, hard_deadlines=self._hard_deadlines)


class Random:
    """A uniformly random set of the streams that are up."""

    name = "random"

    def begin(self, sim: Simulator) -> None:
        """Nothing to prepare."""

    def act(self, sim: Simulator) -> Choice:
        return sim.explore(sim.choose("single_best"), epsilon=1.0)


class Oracle:
    """A clairvoyant: one step of policy improvement over a rule, in the future as it will be."""

    name = "oracle"

    def __init__(self, horizon: int = 30, rule: str = "least_completion_time") -> None:
        self.horizon = horizon
        self.rule = rule

    def begin(self, sim: Simulator) -> None:
        """Nothing to prepare."""

    def act(self, sim: Simulator) -> Choice:
        return sim.look_ahead(self.horizon, self.rule)
