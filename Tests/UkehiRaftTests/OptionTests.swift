// What the core does beyond etcd's, each off unless asked for, and the bounds it keeps.

import Testing
import UkehiBase

@testable import UkehiRaft

@Suite("Bounds: inflights and uncommitted bytes (RULES 7, 8)")
struct BoundTests {
    @Test("uncommitted bytes are bounded, but never stop an empty entry or a membership change")
    func uncommitted() throws {
        let cluster = try RaftCluster(voters: [1, 2, 3]) { $0.maxUncommittedBytes = 10 }
        try cluster.elect(1)
        try cluster.propose("one of any size", at: 1)
        #expect(throws: RaftError.proposalDropped(.tooManyUncommittedBytes)) {
            try cluster.propose("x", at: 1)
        }
        try cluster.propose("", at: 1)
        try cluster[1].raft.proposeConfChange(
            ConfigurationChange([.init(.addLearner, PeerID(3))], context: "of any size too"))
        try cluster.settle()
        #expect(cluster[1].uncommittedBytes == 0)
        try cluster.propose("x", at: 1)
    }

    @Test("bytes lost with leadership are not counted for ever")
    func uncommittedIsReset() throws {
        let cluster = try RaftCluster(voters: [1, 2, 3]) { $0.maxUncommittedBytes = 10 }
        try cluster.elect(1)
        try cluster.propose("lost, and long", at: 1)
        try cluster.elect(2, among: [2, 3])
        cluster.drop { _ in true }
        cluster.tick(2)
        try cluster.settle()
        try cluster.elect(1)
        #expect(cluster[1].uncommittedBytes == 0)
        try cluster.propose("x", at: 1)
    }

    @Test("appends in flight are bounded by count and by bytes", arguments: [(3, 0), (100, 60)])
    func window(messages: Int, bytes: UInt64) throws {
        let cluster = try RaftCluster(voters: [1, 2]) {
            $0.maxInflightMessages = messages
            $0.maxInflightBytes = bytes
            $0.maxMessageBytes = 1
        }
        try cluster.elect(1)
        for _ in 0..<20 { try cluster.propose("twenty bytes of data", at: 1) }
        cluster.collect(cluster[1])
        #expect(cluster.take { $0.kind == .appendEntries }.count == 3)
        #expect(cluster[1].progress(of: 2)?.isWindowFull == true)
        // All of them are lost; a heartbeat's answer brings one empty append, and that the rest.
        cluster.tick(1)
        try cluster.settle()
        #expect(cluster[2].lastIndex == cluster[1].lastIndex)
    }

    @Test("the inflight ring keeps order through growth and wrapping")
    func ring() {
        var random = SeededRandom(12)
        var window = Inflights(maxCount: 9, maxBytes: 0)
        var naive: [(UInt64, UInt64)] = []
        var next: UInt64 = 1
        for _ in 0..<5_000 {
            if random.chance(60), !window.isFull {
                window.add(LogIndex(next), bytes: next % 7)
                naive.append((next, next % 7))
                next += UInt64(1 + random.below(3))
            } else {
                let upTo = (naive.first?.0 ?? 0) + UInt64(random.below(6))
                window.free(upTo: LogIndex(upTo))
                naive.removeAll { $0.0 <= upTo }
            }
            #expect(Int(window.count) == naive.count)
            #expect(window.bytes == naive.reduce(0) { $0 + $1.1 })
            #expect(window.isFull == (naive.count == 9))
        }
    }
}

@Suite("Lazy commit: one message for the commits of one pass")
struct LazyCommitTests {
    private func cluster(_ lazy: Bool) throws -> RaftCluster {
        try RaftCluster(voters: [1, 2, 3]) {
            $0.lazyCommitBroadcast = lazy
            $0.coalesceAcknowledgements = lazy
        }
    }

    @Test("a commit is told by the flush, once, or by the next append")
    func flush() throws {
        let cluster = try cluster(true)
        try cluster.elect(1)
        cluster[1].raft.flushCommit()
        try cluster.settle()
        for _ in 0..<5 { try cluster.propose("x", at: 1) }
        cluster.collect(cluster[1])
        #expect(cluster.network.count { $0.kind == .appendEntries } == 2, "one append each")
        try cluster.settle()
        #expect(cluster[1].committed == LogIndex(6) && cluster[2].committed == LogIndex(1))
        cluster[1].raft.flushCommit()
        cluster[1].raft.flushCommit()
        cluster.collect(cluster[1])
        #expect(cluster.network.count == 2)
        try cluster.settle()
        #expect(cluster[2].committed == LogIndex(6) && cluster[3].committed == LogIndex(6))
    }

    @Test("without a flush the next heartbeat tells it")
    func heartbeat() throws {
        let cluster = try cluster(true)
        try cluster.elect(1)
        #expect(cluster[2].committed == .zero)
        cluster.tick(1)
        try cluster.settle()
        #expect(cluster[2].committed == LogIndex(1))
    }

    @Test("acknowledgements that wait for one write become one")
    func coalesced() throws {
        for lazy in [false, true] {
            let cluster = try cluster(lazy)
            try cluster.elect(1)
            cluster[1].raft.flushCommit()
            try cluster.settle()
            for term in 2...4 as ClosedRange<UInt64> {
                try cluster[2].raft.step(
                    Message(
                        kind: .appendEntries, to: PeerID(2), from: PeerID(1), term: Term(1),
                        logTerm: Term(1), index: LogIndex(term - 1),
                        entries: [Entry(term: Term(1), index: LogIndex(term))]))
            }
            try cluster.work(cluster[2])
            let answers = cluster.take { $0.kind == .appendEntriesResponse }
            #expect(answers.count == (lazy ? 1 : 3))
            #expect(answers.last?.index == LogIndex(4))
        }
    }

    @Test("a commit alone is not worth a write, but goes with the next one")
    func persistence() throws {
        let cluster = try RaftCluster(voters: [1]) { $0.lazyCommitPersistence = true }
        try cluster.elect(1)
        cluster.collect(cluster[1])
        #expect(cluster[1].committed == LogIndex(1) && !cluster[1].hasReady)
        #expect(cluster[1].disk.initialState().hardState.commit == .zero)
        try cluster.propose("x", at: 1)
        cluster.collect(cluster[1])
        try cluster.write(cluster[1])
        #expect(cluster[1].disk.initialState().hardState.commit == LogIndex(1))
    }
}

@Suite("Leader support: the promise of a follower's node (DESIGN 7; RULES 6, 55)")
struct SupportTests {
    @Test("while it holds, a follower neither campaigns, pre-votes nor votes")
    func promise() throws {
        let cluster = try RaftCluster(voters: [1, 2, 3]) { $0.preVote = true }
        try cluster.elect(1)
        cluster[2].raft.leaderSupported(until: 1_000)
        cluster.tick(2, 500)
        #expect(cluster[2].role == .follower)
        cluster[2].raft.campaign()
        #expect(cluster[2].role == .follower)
        cluster.tick(3, 100)
        try cluster.settle([2, 3])
        #expect(!cluster[3].isLeader && cluster[2].term == Term(1))
        for kind in [MessageKind.requestVote, .requestPreVote] {
            try cluster[2].raft.step(
                Message(
                    kind: kind, to: PeerID(2), from: PeerID(3), term: Term(9), logTerm: Term(1),
                    index: LogIndex(9)))
        }
        try cluster.work(cluster[2])
        #expect(cluster.take { $0.from == PeerID(2) }.isEmpty)
        #expect(cluster[2].term == Term(1))
        cluster[2].raft.forgetLeader()
        #expect(cluster[2].leader == PeerID(1))
    }

    @Test(
        "when it ends, or is taken back, only the jitter is left to wait",
        arguments: [
            true, false,
        ])
    func end(takenBack: Bool) throws {
        let cluster = try RaftCluster(voters: [1, 2, 3])
        try cluster.elect(1)
        cluster[2].raft.leaderSupported(until: cluster[2].raft.ticks + 50)
        cluster.tick(2, takenBack ? 30 : 49)
        #expect(cluster[2].isSupportingLeader)
        if takenBack { cluster[2].raft.leaderSupported(until: 0) } else { cluster.tick(2) }
        #expect(!cluster[2].isSupportingLeader)
        cluster.tick(2, 10)
        #expect(cluster[2].role == .candidate, "0 to 9 ticks of jitter have passed")
    }

    @Test("a leader of a higher term, elected by others, ends the promise")
    func higherTerm() throws {
        let cluster = try RaftCluster(voters: [1, 2, 3])
        try cluster.elect(1)
        cluster[2].raft.leaderSupported(until: 1_000)
        try cluster.elect(3, among: [1, 3])
        cluster.tick(3)
        try cluster.settle()
        #expect(cluster[2].leader == PeerID(3) && !cluster[2].isSupportingLeader)
    }

    @Test("the supported leader may hand over")
    func transfer() throws {
        let cluster = try RaftCluster(voters: [1, 2, 3]) { $0.checkQuorum = true }
        try cluster.elect(1)
        for id in 2...3 as ClosedRange<UInt64> { cluster[id].raft.leaderSupported(until: 1_000) }
        cluster[1].raft.transferLeadership(to: PeerID(2))
        #expect(cluster[1].mayHaveAbdicated)
        try cluster.settle()
        #expect(cluster[2].isLeader)
    }
}

@Suite("Who is heard")
struct HeardTests {
    /// Found by simulation (seed 2700012 of the scenario `nodes`): who looked at the same time as the core
    /// checked its quorum saw nobody, for as long as that leader led.
    @Test("right behind a quorum check those who answered before it are heard, until the next one")
    func behindCheck() throws {
        let cluster = try RaftCluster(voters: [1, 2, 3]) { $0.checkQuorum = true }
        try cluster.elect(1)
        try cluster.settle()
        func progress(_ id: UInt64) throws -> PeerProgress {
            let found = cluster[1].raft.progress(of: PeerID(id))
            return try #require(found)
        }
        cluster.tick(1, 10)
        for id in 2...3 as ClosedRange<UInt64> {
            let seen = try progress(id)
            #expect(seen.isHeard && !seen.recentActive)
        }
        try cluster.settle([1, 2])
        #expect(try progress(2).recentActive && progress(2).isHeard)
        cluster.tick(1, 10)
        #expect(try progress(2).isHeard)
        #expect(try !progress(3).isHeard)
        #expect(cluster[1].isLeader)
    }
}

@Suite("A leader that sends what is durable")
struct DurableFirstTests {
    /// Found by simulation (seed 2701665 of the scenario `nodes`): the only peer that could lead had lost
    /// entries without power that it had sent, and was no longer voted for.
    @Test(
        "entries go out once they are durable where they were appended", arguments: [false, true])
    func waits(isOn: Bool) throws {
        let cluster = try RaftCluster(voters: [1, 2, 3])
        try cluster.elect(1)
        try cluster.settle()
        cluster[1].raft.sendsDurableOnly = isOn
        let index = try cluster.propose("x", at: 1)
        cluster.collect(cluster[1])
        func isSent() -> Bool {
            cluster.network.contains {
                $0.kind == .appendEntries && $0.entries.contains { $0.index == index }
            }
        }
        #expect(isSent() == !isOn)
        try cluster.work(cluster[1])
        #expect(isSent())
        try cluster.settle()
        for id in 1...3 as ClosedRange<UInt64> { #expect(cluster[id].lastIndex == index) }
        #expect(cluster[1].committed == index)
    }
}

@Suite("Restart and settings")
struct RestartTests {
    @Test("a restarted peer does not campaign before it applied what it knew to be committed")
    func barrier() throws {
        for isOn in [false, true] {
            let cluster = try RaftCluster(voters: [1, 2, 3]) { $0.restartCampaignBarrier = isOn }
            try cluster.elect(1)
            try cluster.propose("x", at: 1)
            try cluster.settle()
            try cluster.restart(1)
            #expect(cluster[1].committed == LogIndex(2) && cluster[1].applied == .zero)
            cluster[1].raft.campaign()
            #expect((cluster[1].role == .candidate) == !isOn)
            try cluster.work(cluster[1])
            cluster[1].raft.campaign()
            #expect(cluster[1].role == .candidate)
        }
    }

    /// Found by simulation (seeds 600120 and 600128 of the scenario `members`): the leader that a joint
    /// change demoted had applied the entry that left it, and had one entry more than the others, who did
    /// not know that it was committed.
    @Test(
        "who refuses a vote tells what is committed, so that those who need not ask it learn of it")
    func refusalTells() throws {
        for isOn in [false, true] {
            let cluster = try RaftCluster(voters: [1, 2], learners: [3]) {
                $0.refusalTellsCommit = isOn
                $0.preVote = true
                $0.stepDownOnRemoval = true
            }
            try cluster.elect(1)
            try cluster[1].raft.proposeConfChange(
                ConfigurationChange(
                    [.init(.addVoter, PeerID(3)), .init(.addLearner, PeerID(1))],
                    transition: .jointExplicit))
            try cluster.settle()
            let leave = try cluster[1].raft.proposeConfChange(.leaveJoint).index
            cluster.collect(cluster[1])
            let appends = cluster.take { _ in true }
            try cluster.propose("more", at: 1)
            cluster.collect(cluster[1])
            cluster.drop { _ in true }
            for message in appends { cluster.deliver(message) }
            for id in 2...3 as ClosedRange<UInt64> { try cluster.work(cluster[id]) }
            for message in cluster.take({ $0.to == PeerID(1) }) { cluster.deliver(message) }
            try cluster.work(cluster[1])
            cluster.drop { _ in true }
            #expect(cluster[1].applied == leave && cluster[1].lastIndex == leave + 1)
            #expect(!cluster[1].isLeader)
            for id in 2...3 as ClosedRange<UInt64> {
                #expect(cluster[id].committed < leave && cluster[id].lastIndex == leave)
            }
            for _ in 0..<3 {
                cluster[2].raft.campaign()
                try cluster.settle()
            }
            #expect(cluster[2].isLeader == isOn)
            // One that leads, or has other entries there, takes nothing from it.
            let forged = Message(
                kind: .requestPreVoteResponse, to: PeerID(2), from: PeerID(3),
                term: cluster[2].term, logTerm: Term(1), index: .zero,
                commit: cluster[2].lastIndex, reject: true)
            let committed = cluster[2].committed
            cluster.deliver(forged)
            #expect(cluster[2].committed == committed)
        }
    }

    /// Found by simulation: node 1 led a term that its own disk did not know yet, lost power, and was
    /// elected again in that term by the same votes, with another entry at the same index.
    @Test("a peer is never elected twice in one term, whatever a power cut takes from it")
    func electedOnce() throws {
        for isOn in [false, true] {
            let cluster = try RaftCluster(voters: [1, 2, 3]) { $0.leadOnlyWithDurableVote = isOn }
            /// Campaigns while the disk of 1 stands still; what it appends then is lost.
            func campaign() throws {
                cluster[1].raft.campaign()
                cluster.collect(cluster[1])
                while !cluster.network.isEmpty {
                    for message in cluster.take({ _ in true }) where message.entries.isEmpty {
                        cluster.deliver(message)
                        let receiver = message.to.rawValue
                        if receiver != 1 { try cluster.work(cluster[receiver]) }
                    }
                }
            }
            try campaign()
            let term = cluster[1].term
            #expect(cluster[1].isLeader == !isOn)
            try cluster.restart(1)
            try campaign()
            // Without the option the same peer leads the same term again, its first entry forgotten.
            #expect(cluster[1].term == term)
            #expect(cluster[1].isLeader == !isOn)
            try cluster.settle()
            #expect(cluster[1].isLeader)
        }
    }

    /// The vote was given to a log that a power cut then took the end of, with the term in which it was
    /// asked for. It arrives when the peer campaigns in that term once more, with what is left.
    @Test("a vote for a log that a power cut took the end of does not elect what is left")
    func votedForALostLog() throws {
        for isOn in [false, true] {
            let cluster = try RaftCluster(voters: [1, 2, 3]) { $0.leadOnlyWithDurableVote = isOn }
            try cluster.elect(2)
            try cluster.settle()
            let index = try cluster.propose("x", at: 2)
            cluster.collect(cluster[2])
            for message in cluster.take({ $0.from == PeerID(2) }) { cluster.deliver(message) }
            // The disk of 1 stands still.
            try cluster.work(cluster[3])
            for message in cluster.take({ $0.from == PeerID(3) }) { cluster.deliver(message) }
            try cluster.work(cluster[2])
            #expect(cluster[1].lastIndex == index && cluster[2].committed == index)

            cluster.network = []
            cluster[1].raft.campaign()
            cluster.collect(cluster[1])
            let term = cluster[1].term
            for message in cluster.take({ $0.to == PeerID(3) }) { cluster.deliver(message) }
            try cluster.work(cluster[3])
            let votes = cluster.take { $0.from == PeerID(3) && $0.to == PeerID(1) }
            #expect(votes.isEmpty == isOn)

            try cluster.restart(1)
            #expect(
                cluster[1].lastIndex == index - 1 && cluster[1].term.rawValue + 1 == term.rawValue)
            cluster[1].raft.campaign()
            try cluster.work(cluster[1])
            #expect(cluster[1].term == term)
            cluster.network = []
            for vote in votes { cluster.deliver(vote) }
            // Without the option it leads, and lacks what is committed.
            #expect(cluster[1].isLeader == !isOn)
            #expect(cluster[1].lastIndex == (isOn ? index - 1 : index))
            #expect(cluster[1].raft.term(at: index) == (isOn ? nil : term))
        }
    }

    @Test("a candidate that has asked nobody yet does not begin again, and then has all its time")
    func patientCandidate() throws {
        for isOn in [false, true] {
            let cluster = try RaftCluster(voters: [1, 2, 3]) { $0.leadOnlyWithDurableVote = isOn }
            cluster[1].raft.campaign()
            cluster.collect(cluster[1])
            let term = cluster[1].term
            cluster.tick(1, 200)
            #expect((cluster[1].term == term) == isOn)
            guard isOn else { continue }
            #expect(cluster[1].role == .candidate && cluster.network.isEmpty)
            // Its vote is durable just before it would have begun again.
            try cluster.work(cluster[1])
            #expect(cluster.take { $0.kind == .requestVote && $0.term == term }.count == 2)
            cluster.tick(1, 9)
            #expect(cluster[1].term == term)
            cluster.tick(1, 11)
            #expect(cluster[1].term > term)
        }
    }

    /// Found by simulation: what a peer answers to an old leader, to pass on its term, has no index. It
    /// came late, when that peer led the new term, and moved a follower back to the first entry.
    @Test("a late answer to a message of an old term is no acknowledgement")
    func lateAnswer() throws {
        let cluster = try RaftCluster(voters: [1, 2, 3])
        try cluster.elect(1)
        for number in 0..<5 { try cluster.propose("\(number)", at: 1) }
        try cluster.settle()
        let last = cluster[1].lastIndex
        cluster[2].raft.campaign()
        while !cluster[2].isLeader {
            try cluster.work(cluster[2])
            try cluster.work(cluster[3])
            for message in cluster.take({ $0.from != PeerID(1) && $0.to != PeerID(1) }) {
                cluster.deliver(message)
            }
        }
        try cluster[2].raft.step(
            Message(
                kind: .appendEntriesResponse, to: PeerID(2), from: PeerID(3),
                term: cluster[2].term))
        let progress = try #require(cluster[2].progress(of: 3))
        #expect(progress.state == .probe)
        #expect(progress.next == last + 1)
        try cluster.settle()
        #expect(cluster[2].progress(of: 3)?.match == last + 1)
    }

    @Test("a storage that contradicts itself is refused")
    func inconsistentStorage() throws {
        func start(
            _ applied: UInt64 = 0, _ change: (MemoryLogStorage) throws -> Void
        ) throws {
            let disk = MemoryLogStorage(
                configuration: ConfigurationState(voters: [PeerID(1)]))
            try change(disk)
            var settings = RaftConfiguration(id: PeerID(1), electionTicks: 10, heartbeatTicks: 1)
            settings.applied = LogIndex(applied)
            _ = try RawNode(configuration: settings, storage: disk)
        }
        try start { _ in }
        #expect(throws: RaftError.self) {
            try start { $0.setHardState(HardState(term: Term(1), commit: LogIndex(1))) }
        }
        #expect(throws: RaftError.self) {
            try start { $0.setHardState(HardState(term: Term(.max))) }
        }
        #expect(throws: RaftError.self) { try start(3) { _ in } }
        #expect(throws: RaftError.self) {
            try start {
                try $0.append([Entry(term: Term(.max), index: LogIndex(1))])
            }
        }
    }

    @Test("impossible settings are refused, with what is allowed")
    func settings() throws {
        let good = RaftConfiguration(id: PeerID(1), electionTicks: 10, heartbeatTicks: 1)
        try good.validate()
        let changes: [(inout RaftConfiguration) -> Void] = [
            { $0.id = .none }, { $0.id = .localApply }, { $0.heartbeatTicks = 0 },
            { $0.electionTicks = 1 }, { $0.electionTicks = .max }, { $0.maxInflightMessages = 0 },
            { $0.readMode = .lease }, { $0.electionJitterTicks = 0 },
            { $0.maxCommittedBytesPerReady = 0 },
            {
                $0.maxMessageBytes = 100
                $0.maxInflightBytes = 99
            },
        ]
        for change in changes {
            var bad = good
            change(&bad)
            #expect(throws: RaftError.self) { try bad.validate() }
        }
    }

    @Test("an election timeout in milliseconds becomes ticks in its stated parts")
    func timing() {
        let timing = RaftTiming(
            electionTimeoutMilliseconds: 1000, heartbeatMilliseconds: 100, tickMilliseconds: 10)
        #expect(timing.electionTicks == 50 && timing.electionJitterTicks == 35)
        #expect(timing.heartbeatTicks == 10 && timing.leaseTicks == 40)
        let coarse = RaftTiming(
            electionTimeoutMilliseconds: 100, heartbeatMilliseconds: 100, tickMilliseconds: 100)
        #expect(coarse.electionTicks > coarse.heartbeatTicks && coarse.heartbeatTicks == 1)
        #expect(coarse.leaseTicks < coarse.electionTicks)
    }

    @Test("synchronous and asynchronous storage lead to the same logs")
    func synchronousMode() throws {
        let disks = (1...3).map { _ in
            MemoryLogStorage(
                configuration: ConfigurationState(voters: [1, 2, 3].map { PeerID($0) }))
        }
        final class Holder {
            var raft: RawNode
            init(_ raft: consuming RawNode) { self.raft = raft }
        }
        let nodes = try disks.enumerated().map { place, disk in
            Holder(
                try RawNode(
                    configuration: RaftConfiguration(
                        id: PeerID(UInt64(place) + 1), electionTicks: 10, heartbeatTicks: 1),
                    storage: disk))
        }
        var applied: [[String]] = [[], [], []]
        func settle() throws {
            var network: [Message] = []
            repeat {
                for message in network {
                    try? nodes[Int(message.to.rawValue) - 1].raft.step(message)
                }
                network = []
                for place in 0..<3 {
                    while nodes[place].raft.hasReady {
                        var ready = Ready()
                        nodes[place].raft.takeReady(into: &ready)
                        if let state = ready.hardState { disks[place].setHardState(state) }
                        try disks[place].append(ready.entries)
                        network += ready.messages
                        for entry in ready.committedEntries where !entry.data.isEmpty {
                            applied[place].append(String(decoding: entry.data.array, as: UTF8.self))
                        }
                        nodes[place].raft.advance()
                    }
                }
            } while !network.isEmpty
        }
        nodes[0].raft.campaign()
        try settle()
        let place = try nodes[0].raft.propose(batch: ["a", "b", "c"])
        #expect(place.term == Term(1) && place.index == LogIndex(2))
        try settle()
        #expect(applied == [["a", "b", "c"], ["a", "b", "c"], ["a", "b", "c"]])
        #expect(disks[1].allEntries == disks[0].allEntries)
    }
}
