// Transcripts of our own, for what the reference's files do not use. Their output was derived from the
// reference's source, not from what this core did.

import Testing
import UkehiBase

@testable import UkehiRaft

@Suite("Transcripts of our own")
struct OwnTranscriptTests {
    private func interact(_ text: String) {
        let interpreter = InteractionInterpreter()
        let run = TranscriptRun(text) { try interpreter.run($0) }
        if let (line, difference) = run.failure { Issue.record("line \(line): \(difference)") }
    }

    @Test("several commands in one directive; errors are told between the outputs")
    func severalCommands() {
        interact(
            """
            log-level NONE
            add-nodes 1 voters=(1) index=3 content=abc
            campaign 1
            stabilize
            ----
            ok

            compact 1 3
            ----
            requested index is unavailable due to compaction

            log-level Warn
            raft-log 1
            compact 1 3
            report-unreachable 1
            process-append-thread 1
            ----
            1/4 EntryNormal ""
            requested index is unavailable due to compactionmust specify exactly two node indexes: \
            node on which to report, and reported nodeno append work to perform

            compact 1 4
            ----
            log is empty: first index=5, last index=4

            process-apply-thread 1
            ----
            no apply work to perform

            deliver-msgs 1 drop=(2, 3) type=MsgApp
            ----
            no messages

            process-ready 1
            ----
            <empty Ready>

            log-level loud
            ----
            log levels must be either of [DEBUG INFO WARN ERROR FATAL NONE]

            frobnicate
            ----
            unknown command
            """)
    }

    @Test("what nodes and changes are refused for")
    func refusals() {
        interact(
            """
            add-nodes 1 voters=(1)
            ----
            index must be specified as > 1 due to bootstrap

            add-nodes 1 voters=(1) index=2 read-only=lease
            ----
            invalid read-only option "lease"

            add-nodes 1 voters=(1) index=2 read-only=safe max-committed-size-per-ready=0
            ----
            INFO started

            propose-conf-change 1 v1=1
            v2 v3
            ----
            v1 conf change can only have one operation and no transition

            propose-conf-change 1 transition=sudden
            v2
            ----
            unknown transition sudden

            propose-conf-change 1 v2=true
            v2
            ----
            unknown command v2

            propose-conf-change 1
            x2
            ----
            unknown input: x2

            propose-conf-change 1
            v2  v3
            ----
            unknown token\u{20}

            propose-conf-change 1
            v2x
            ----
            strconv.ParseUint: parsing "2x": invalid syntax

            propose-conf-change 1
            v2
            ----
            raft proposal dropped
            """)
    }

    @Test("a follower passes a transfer on; with pre-vote and leases the target still wins at once")
    func forwardedTransfer() {
        interact(
            """
            log-level none
            add-nodes 3 voters=(1,2,3) index=10 prevote=true checkquorum=true
            campaign 1
            stabilize
            ----
            ok

            log-level error
            transfer-leadership from=2 to=3
            process-ready 2
            ----
            Ready MustSync=false:
            Messages:
            3->1 MsgTransferLeader Term:1 Log:0/0

            stabilize 1
            propose 1 late
            ----
            > 1 receiving messages
              3->1 MsgTransferLeader Term:1 Log:0/0
            > 1 handling Ready
              Ready MustSync=false:
              Messages:
              1->3 MsgTimeoutNow Term:1 Log:0/0
            raft proposal dropped

            stabilize 3
            ----
            > 3 receiving messages
              1->3 MsgTimeoutNow Term:1 Log:0/0
            > 3 handling Ready
              Ready MustSync=true:
              Lead:0 State:StateCandidate
              HardState Term:2 Vote:3 Commit:11
              Messages:
              3->1 MsgVote Term:2 Log:1/11
              3->2 MsgVote Term:2 Log:1/11

            deliver-msgs 1 drop=2 type=MsgVote
            process-ready 1
            ----
            3->1 MsgVote Term:2 Log:1/11
            dropped: 3->2 MsgVote Term:2 Log:1/11
            Ready MustSync=true:
            Lead:0 State:StateFollower
            HardState Term:2 Vote:3 Commit:11
            Messages:
            1->3 MsgVoteResp Term:2 Log:0/0

            stabilize log-level=none
            raft-state
            ----
            1: StateFollower (Voter) Term:2 Lead:3
            2: StateFollower (Voter) Term:2 Lead:3
            3: StateLeader (Voter) Term:2 Lead:3
            """)
    }

    @Test("applying waits for its bound, with asynchronous storage too")
    func boundedApplying() {
        interact(
            """
            log-level none
            add-nodes 1 voters=(1) index=2 async-storage-writes=true max-committed-size-per-ready=1
            campaign 1
            stabilize
            propose 1 a
            propose 1 b
            process-ready 1
            process-append-thread 1
            deliver-msgs 1
            ----
            ok

            log-level debug
            process-ready 1
            ----
            Ready MustSync=false:
            HardState Term:1 Vote:1 Commit:5
            CommittedEntries:
            1/4 EntryNormal "a"
            Messages:
            1->AppendThread MsgStorageAppend Term:1 Log:0/0 Commit:5 Vote:1
            1->ApplyThread MsgStorageApply Term:0 Log:0/0 Entries:[1/4 EntryNormal "a"] Responses:[
              ApplyThread->1 MsgStorageApplyResp Term:0 Log:0/0 Entries:[1/4 EntryNormal "a"]
            ]

            process-ready 1
            ----
            <empty Ready>

            process-apply-thread 1
            deliver-msgs 1
            process-ready 1
            ----
            Processing:
            1->ApplyThread MsgStorageApply Term:0 Log:0/0 Entries:[1/4 EntryNormal "a"]
            Responses:
            ApplyThread->1 MsgStorageApplyResp Term:0 Log:0/0 Entries:[1/4 EntryNormal "a"]
            ApplyThread->1 MsgStorageApplyResp Term:0 Log:0/0 Entries:[1/4 EntryNormal "a"]
            Ready MustSync=false:
            CommittedEntries:
            1/5 EntryNormal "b"
            Messages:
            1->ApplyThread MsgStorageApply Term:0 Log:0/0 Entries:[1/5 EntryNormal "b"] Responses:[
              ApplyThread->1 MsgStorageApplyResp Term:0 Log:0/0 Entries:[1/5 EntryNormal "b"]
            ]
            """)
    }

    @Test("ticks, learners, a window, and a learner that is brought back in one change")
    func ticksAndLearners() {
        interact(
            """
            log-level none
            add-nodes 3 voters=(1,2) learners=(3) index=10 election-tick=4 heartbeat-tick=2 inflight=1
            tick 1 7
            stabilize
            log-level debug
            status 1
            ----
            1: StateReplicate match=11 next=12
            2: StateReplicate match=11 next=12
            3: StateReplicate match=11 next=12 learner

            status 2
            ----
            ok

            propose 1 x
            status 1
            ----
            1: StateReplicate match=11 next=12
            2: StateReplicate match=11 next=13 paused inflight=1[full]
            3: StateReplicate match=11 next=13 learner paused inflight=1[full]

            tick 1 1
            process-ready 1
            ----
            Ready MustSync=true:
            Entries:
            1/12 EntryNormal "x"
            Messages:
            1->2 MsgApp Term:1 Log:1/11 Commit:11 Entries:[1/12 EntryNormal "x"]
            1->3 MsgApp Term:1 Log:1/11 Commit:11 Entries:[1/12 EntryNormal "x"]

            tick 1 1
            process-ready 1
            ----
            Ready MustSync=false:
            Messages:
            1->2 MsgHeartbeat Term:1 Log:0/0 Commit:11
            1->3 MsgHeartbeat Term:1 Log:0/0 Commit:11

            stabilize log-level=none
            ----
            ok

            propose-conf-change 1 transition=explicit
            r3 l3
            ----
            ok

            stabilize 1 2 log-level=none
            status 1
            ----
            1: StateReplicate match=13 next=14
            2: StateReplicate match=13 next=14
            3: StateProbe match=0 next=13 learner paused
            """)
    }
}
