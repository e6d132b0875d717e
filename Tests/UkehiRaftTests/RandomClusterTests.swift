// The safety properties of Raft (Figure 3) under everything a network and a disk can do, checked
// after each step. One line repeats a failing run: the seed is in the message.

import Foundation
import Testing
import UkehiBase

@testable import UkehiRaft

/// One run: a cluster, its faults, and what must stay true of it.
private final class RandomRun {
    let seed: UInt64
    var random: SeededRandom
    let cluster: RaftCluster
    /// Who led in each term (election safety).
    var leaders: [Term: PeerID] = [:]
    /// The term of each committed entry, by index from `base` on (leader completeness).
    var committed: [LogIndex: Term] = [:]
    /// The state after each index (state machine safety).
    var digests: [LogIndex: Bytes] = [:]
    /// What each peer was last seen at.
    var commits: [LogIndex]
    var elections = 0
    var restarts = 0
    var changes = 0
    var snapshots = 0
    var proposals = 0
    /// Peers on one side of a partition; nothing crosses.
    var island: Set<PeerID> = []

    /// Whether changes may take away the leader's own vote. Raft stays safe, but such a group can come to
    /// a halt (RULES 11): a voter that does not know of the change can't be elected past the removed
    /// leader's longer log, and the removed leader does not campaign.
    let removesLeaders: Bool

    static let base: UInt64 = 5

    init(seed: UInt64) throws {
        self.seed = seed
        var random = SeededRandom(seed)
        let voters = 3 + random.below(3)
        let extra = random.below(3)
        let preVote = random.chance(50)
        let checkQuorum = random.chance(50)
        let small = random.chance(50)
        let lazy = random.chance(50)
        let stepDown = random.chance(50)
        let refuse = random.chance(50)
        removesLeaders = random.chance(25)
        cluster = try RaftCluster(
            voters: (1...UInt64(voters)).map { $0 }, extra: extra, base: Self.base
        ) { settings in
            settings.electionTicks = 6
            settings.seed = seed
            settings.preVote = preVote
            settings.checkQuorum = checkQuorum
            settings.stepDownOnRemoval = stepDown
            settings.refuseInvalidConfChanges = refuse
            settings.restartCampaignBarrier = lazy
            settings.leadOnlyWithDurableVote = lazy
            settings.lazyCommitBroadcast = lazy
            settings.lazyCommitPersistence = lazy
            settings.coalesceAcknowledgements = lazy
            if small {
                settings.maxMessageBytes = 60
                settings.maxCommittedBytesPerReady = 90
                settings.maxInflightMessages = 3
            }
        }
        commits = cluster.peers.map { $0.raft.committed }
        self.random = random
        cluster.onApply = { [unowned self] peer, entry in
            if let known = digests[entry.index] {
                expect(known == peer.state.data, "two states after \(entry.index)")
            }
            digests[entry.index] = peer.state.data
        }
    }

    func expect(_ condition: Bool, _ message: @autoclosure () -> String) {
        if !condition { Issue.record("seed \(seed): \(message())") }
    }

    func step() throws {
        let number = UInt64(1 + random.below(cluster.peers.count))
        let peer = cluster[number]
        switch random.below(100) {
        case 0..<14:
            peer.raft.tick()
        case 14..<60:
            guard !cluster.network.isEmpty else { break }
            // Reordered by taking any; lost or doubled now and then.
            let place = random.chance(70) ? 0 : random.below(cluster.network.count)
            let message = cluster.network.remove(at: place)
            if random.chance(2) || island.contains(message.from) != island.contains(message.to) {
                break
            }
            if random.chance(3) { cluster.network.append(message) }
            cluster.deliver(message)
            check(Int(message.to.rawValue) - 1)
        case 60..<75:
            try cluster.write(peer)
        case 75..<84:
            try cluster.apply(peer)
        case 84..<92:
            if peer.raft.isLeader {
                _ = try? peer.raft.propose(Bytes("command \(proposals)"))
                proposals += 1
            }
        case 92:
            if random.chance(50) { changePartition() }
        case 93:
            // The state machine reaches the disk, at what is applied and durable.
            if peer.state.index <= peer.disk.lastIndex { peer.disk.flushed = peer.state }
        case 94:
            let target = peer.disk.flushed.index
            if target >= peer.disk.firstIndex { try peer.disk.compact(to: target) }
        case 95:
            if random.chance(30) {
                try cluster.restart(number)
                commits[Int(number) - 1] = cluster[number].raft.committed
                restarts += 1
            }
        case 96:
            if peer.raft.isLeader { proposeChange(peer) }
        case 97 where random.chance(50):
            if peer.raft.isLeader { proposeChange(peer) }
        case 97:
            let other = PeerID(UInt64(1 + random.below(cluster.peers.count)))
            switch random.below(4) {
            case 0: peer.raft.transferLeadership(to: other)
            case 1: peer.raft.reportUnreachable(other)
            case 2: peer.raft.reportSnapshot(other, ok: random.chance(50))
            default: peer.raft.forgetLeader()
            }
        case 98:
            peer.disk.failingReads = random.below(2)
            peer.raft.storageFetched()
        default:
            if random.chance(20) { peer.raft.campaign() }
        }
        peer.raft.flushCommit()
        cluster.collect(peer)
        check(Int(number) - 1)
    }

    private func changePartition() {
        island = []
        if random.chance(60) {
            for peer in cluster.peers where random.chance(45) { island.insert(peer.raft.id) }
        }
    }

    private func proposeChange(_ leader: TestPeer) {
        let kinds: [ConfigurationChange.Step.Kind] = [.addVoter, .remove, .addLearner]
        let transitions: [ConfigurationChange.Transition] = [
            .automatic, .jointImplicit, .jointExplicit,
        ]
        if leader.raft.configuration.isJoint {
            _ = try? leader.raft.proposeConfChange(.leaveJoint)
            return
        }
        let steps = (0..<(1 + random.below(2))).map { _ in
            ConfigurationChange.Step(
                kinds[random.below(3)], PeerID(UInt64(1 + random.below(cluster.peers.count))))
        }
        let change = ConfigurationChange(steps, transition: transitions[random.below(3)])
        // Keep enough voters for the run to go on; everything else is allowed to be foolish.
        guard let next = try? leader.raft.configuration.applying(change), next.voters.count >= 2,
            removesLeaders || next.voters.contains(leader.raft.id)
        else { return }
        if (try? leader.raft.proposeConfChange(change)) != nil { changes += 1 }
    }

    /// What one peer's step may not have broken.
    private func check(_ place: Int) {
        let peer = cluster.peers[place]
        let raft = peer.raft.status
        let commit = raft.hardState.commit
        expect(commit >= commits[place], "peer \(place + 1) committed backwards")
        expect(commit <= peer.raft.lastIndex, "peer \(place + 1) committed past its log")
        expect(peer.raft.applied <= commit, "peer \(place + 1) applied past its commit")
        var index = max(commits[place] + 1, peer.raft.firstIndex)
        while index <= commit {
            if let term = peer.raft.term(at: index) {
                if let known = committed[index] {
                    expect(known == term, "two entries committed at \(index)")
                }
                committed[index] = term
            }
            index = index + 1
        }
        commits[place] = commit

        guard raft.softState.role == .leader else { return }
        let term = raft.hardState.term
        if let other = leaders[term] {
            expect(other == raft.id, "two leaders in term \(term)")
            return
        }
        leaders[term] = raft.id
        elections += 1
        for (index, known) in committed where index >= peer.raft.firstIndex {
            expect(
                peer.raft.term(at: index) == known,
                "leader \(raft.id) of term \(term) lacks committed entry \(index)")
        }
    }

    /// Log matching: logs that agree on an entry agree on all before it.
    func checkLogs() {
        for a in cluster.peers {
            for b in cluster.peers where a.raft.id < b.raft.id {
                var index = min(a.raft.lastIndex, b.raft.lastIndex)
                let first = max(a.raft.firstIndex, b.raft.firstIndex)
                var mustMatch = false
                while index >= first, index > .zero {
                    let same = a.raft.term(at: index) == b.raft.term(at: index)
                    if mustMatch {
                        expect(
                            same, "\(a.raft.id) and \(b.raft.id) differ below a match at \(index)")
                    }
                    if same { mustMatch = true }
                    index = index - 1
                }
            }
        }
    }

    /// No more faults: the group must come to agree, and make progress.
    func recover() throws {
        for round in 0..<400 {
            for place in cluster.peers.indices {
                var peer = cluster.peers[place]
                peer.disk.failingReads = 0
                // What a node owes its core: a snapshot is of the newest state, since one without a new
                // member is of no use to that member; one that was sent is reported done or lost.
                if peer.state.index <= peer.disk.lastIndex { peer.disk.flushed = peer.state }
                for progress in peer.raft.status.progress where progress.state == .snapshot {
                    peer.raft.reportSnapshot(progress.id, ok: false)
                }
                // Without `stepDownOnRemoval` a removed leader leads until somebody stops it.
                if peer.raft.isLeader, !peer.raft.configuration.isVoter(peer.raft.id) {
                    try cluster.restart(UInt64(place) + 1)
                    peer = cluster.peers[place]
                    commits[place] = peer.raft.committed
                }
                peer.raft.storageFetched()
                peer.raft.tick()
                peer.raft.flushCommit()
                try cluster.work(peer)
            }
            try cluster.settle()
            for place in cluster.peers.indices { check(place) }
            guard round % 20 == 19,
                let leader = cluster.peers.filter({ $0.raft.isLeader })
                    .max(by: { $0.raft.term < $1.raft.term }),
                (try? leader.raft.propose("the end")) != nil
            else { continue }
            let goal = leader.raft.lastIndex
            for _ in 0..<5 {
                leader.raft.tick()
                try cluster.settle()
                leader.raft.flushCommit()
                try cluster.settle()
            }
            let members = leader.raft.configuration.members.ids
            if members.allSatisfy({ cluster[$0.rawValue].raft.applied >= goal }) { return }
        }
        if removesLeaders { return }
        let lines = cluster.peers.map { peer in
            "\(peer.raft.id) \(peer.raft.role) term \(peer.raft.term) last \(peer.raft.lastIndex) "
                + "commit \(peer.raft.committed) applied \(peer.raft.applied) "
                + "voters \(peer.raft.configuration.state) progress \(peer.raft.status.progress)"
        }
        expect(false, "no progress after the faults\n" + lines.joined(separator: "\n"))
    }
}

/// `UKEHI_RAFT_BLOCKS=1000 swift test --filter RandomCluster` runs for long.
private let blocks =
    ProcessInfo.processInfo.environment["UKEHI_RAFT_BLOCKS"].flatMap(UInt64.init) ?? 8

@Suite("Raft, Figure 3: safety under loss, duplication, reordering, crashes and changes")
struct RandomClusterTests {
    @Test("random runs", arguments: 1...blocks)
    func randomRuns(block: UInt64) throws {
        var totals = (elections: 0, restarts: 0, changes: 0, committed: 0, proposals: 0)
        for seed in (block * 1000)..<(block * 1000 + 6) {
            let run = try RandomRun(seed: seed)
            for count in 0..<10_000 {
                try run.step()
                if count % 100 == 0 { run.checkLogs() }
            }
            try run.recover()
            run.checkLogs()
            totals.elections += run.elections
            totals.restarts += run.restarts
            totals.changes += run.changes
            totals.committed += run.committed.count
            totals.proposals += run.proposals
        }
        // A run in which nothing happens proves nothing.
        #expect(totals.elections > 15)
        #expect(totals.restarts > 20)
        #expect(totals.changes > 4)
        #expect(totals.committed > 250)
    }
}
