// Tables of our own, of membership changes and quorums, for what the reference's files do not use.

import Testing
import UkehiBase

@testable import UkehiRaft

@Suite("Tables of our own")
struct OwnTableTests {
    @Test("changes that bring a member back start its progress over")
    func rejoining() {
        var interpreter = ConfChangeInterpreter()
        let run = TranscriptRun(
            """
            simple
            v1
            ----
            voters=(1)
            1: StateProbe match=0 next=1

            simple
            v2
            ----
            voters=(1 2)
            1: StateProbe match=0 next=1
            2: StateProbe match=0 next=1

            simple
            vx
            ----
            strconv.ParseUint: parsing "x": invalid syntax

            simple
            r2 v2 l2 v2
            ----
            voters=(1 2)
            1: StateProbe match=0 next=1
            2: StateProbe match=0 next=3

            enter-joint autoleave=T
            r2 v2
            ----
            voters=(1 2)&&(1 2) autoleave
            1: StateProbe match=0 next=1
            2: StateProbe match=0 next=3

            leave-joint
            v1
            ----
            this command takes no input

            leave-joint
            ----
            voters=(1 2)
            1: StateProbe match=0 next=1
            2: StateProbe match=0 next=3

            simple
            l3 r3 l3 v4 r4
            ----
            voters=(1 2) learners=(3)
            1: StateProbe match=0 next=1
            2: StateProbe match=0 next=3
            3: StateProbe match=0 next=7 learner

            leave-joint
            ----
            can't leave a non-joint config

            simple
            l11
            ----
            voters=(1 2) learners=(3 b)
            1: StateProbe match=0 next=1
            2: StateProbe match=0 next=3
            3: StateProbe match=0 next=7 learner
            11: StateProbe match=0 next=9 learner

            abdicate
            ----
            unknown command
            """
        ) { try interpreter.run($0) }
        if let (line, difference) = run.failure { Issue.record("line \(line): \(difference)") }
    }

    @Test("tables: ids beyond nine, missing and mismatched input")
    func tables() {
        let run = TranscriptRun(
            """
            committed cfg=(9,10,30) idx=(4,_,100000)
            ----
                   idx
            x>       4    (id=9)
            ?        0    (id=a)
            xx>  100000    (id=1e)
            4

            committed cfg=(1,2) cfgj=(2,3) idx=(5,7)
            ----
            error: mismatched input (explicit or _) for voters map[1:{} 2:{} 3:{}]: [5 7]

            committed cfgj=zero
            ----
            <empty majority quorum>∞

            vote cfg=(1,2,2) cfgj=(2,3) votes=(y,_,y)
            ----
            VotePending
            """
        ) { try QuorumInterpreter.run($0) }
        if let (line, difference) = run.failure { Issue.record("line \(line): \(difference)") }
    }
}
