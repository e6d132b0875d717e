// A peer whose log has entries that cannot be read: it votes and acknowledges by their indexes and
// terms, and neither leads nor campaigns (DESIGN.md section 5).

import Testing
import UkehiBase

@testable import UkehiRaft

@Suite("Damaged peers")
struct DamagedPeerTests {
    private func notices(_ cluster: RaftCluster) -> [Message] {
        cluster.network.filter { $0.kind == .timeoutNow }
    }

    private func damage(_ peer: TestPeer, in cluster: RaftCluster, _ isDamaged: Bool = true) {
        peer.raft.setDamaged(isDamaged)
        cluster.collect(peer)
    }

    // MARK: Leaders

    @Test("a leader steps down at once, and the voter that has most of its log takes over")
    func leader() throws {
        let cluster = try RaftCluster(voters: [1, 2, 3, 4], learners: [5])
        try cluster.elect(1)
        // One voter gets what the others do not, and a learner more than that.
        try cluster.propose("x", at: 1)
        try cluster.settle([1, 3, 5])
        try cluster.propose("z", at: 1)
        try cluster.settle([1, 5])
        let matches = (2...5 as ClosedRange<UInt64>).map { cluster[1].progress(of: $0)?.match }
        #expect(matches == [1, 2, 1, 3].map { LogIndex($0) })

        damage(cluster[1], in: cluster)
        #expect(cluster[1].isDamaged)
        #expect(cluster[1].role == .follower && cluster[1].leader == .none)
        #expect(cluster[1].term == Term(1) && cluster[1].vote == PeerID(1))
        #expect(
            notices(cluster) == [
                Message(kind: .timeoutNow, to: PeerID(3), from: PeerID(1), term: Term(1))
            ])
        // What it had not sent yet it sends no more.
        #expect(throws: RaftError.self) { try cluster.propose("y", at: 1) }

        try cluster.settle()
        #expect(cluster[3].isLeader && cluster[3].term == Term(2))
        for id in 1...5 as ClosedRange<UInt64> { #expect(cluster[id].commands == ["x"]) }
        #expect(cluster[3].progress(of: 1)?.match == cluster[3].lastIndex)
        #expect(cluster[1].role == .follower && cluster[1].leader == PeerID(3))
    }

    @Test("who may not campaign follows a leader that is gone, and says that it is not heard")
    func learnerWithoutLeader() throws {
        let cluster = try RaftCluster(voters: [1, 2, 3], learners: [4])
        try cluster.elect(1)
        try cluster.settle()
        #expect(cluster[4].leader == PeerID(1) && cluster[4].hearsLeader)
        cluster.tick(4, 19)
        #expect(cluster[4].hearsLeader)
        cluster.tick(4, 1)
        #expect(cluster[4].leader == PeerID(1) && !cluster[4].hearsLeader)
        cluster.tick(1, 1)
        try cluster.settle()
        #expect(cluster[4].hearsLeader && cluster[1].hearsLeader)
    }

    @Test("of equals the first takes over, and none that was not heard from")
    func choice() throws {
        let cluster = try RaftCluster(voters: [1, 2, 3, 4]) { $0.checkQuorum = true }
        try cluster.elect(1)
        try cluster.propose("x", at: 1)
        try cluster.settle()
        let undecided = cluster[1].raft.fork(storage: cluster[1].disk)
        // An election timeout in which 2 says nothing.
        cluster.tick(1, 10)
        for _ in 0..<5 {
            cluster.tick(1)
            try cluster.settle([1, 3, 4])
        }
        #expect(cluster[1].isLeader)
        damage(cluster[1], in: cluster)
        #expect(notices(cluster).map(\.to) == [PeerID(3)])
        // With all of them active it would have been that one.
        cluster[1].raft = undecided
        cluster.drop { _ in true }
        damage(cluster[1], in: cluster)
        #expect(notices(cluster).map(\.to) == [PeerID(2)])
    }

    @Test("a leader that has heard from nobody steps down without a word")
    func alone() throws {
        let cluster = try RaftCluster(voters: [1, 2, 3])
        cluster[1].raft.campaign()
        try cluster.work(cluster[1])
        for message in cluster.take({ $0.kind == .requestVote }) { cluster.deliver(message) }
        for id in [2, 3] as [UInt64] { try cluster.work(cluster[id]) }
        for message in cluster.take({ $0.kind == .requestVoteResponse }) {
            cluster.deliver(message)
        }
        #expect(cluster[1].isLeader)
        cluster.drop { _ in true }
        damage(cluster[1], in: cluster)
        #expect(cluster[1].role == .follower)
        #expect(cluster.network.isEmpty)

        // Nor has a group of one anybody to give way to.
        let single = try RaftCluster(voters: [1])
        try single.elect(1)
        damage(single[1], in: single)
        #expect(single[1].role == .follower && single.network.isEmpty)
        single.tick(1, 1000)
        #expect(single[1].role == .follower && single[1].term == Term(1))
    }

    @Test("a transfer that was under way is not waited for")
    func transfer() throws {
        let cluster = try RaftCluster(voters: [1, 2, 3])
        try cluster.elect(1)
        cluster.tick(1)
        try cluster.settle()
        cluster[1].raft.transferLeadership(to: PeerID(3))
        cluster.collect(cluster[1])
        cluster.drop { _ in true }
        damage(cluster[1], in: cluster)
        #expect(notices(cluster).map(\.to) == [PeerID(2)])
        #expect(cluster[1].transferee == .none && !cluster[1].mayHaveAbdicated)
        try cluster.settle()
        #expect(cluster[2].isLeader)
    }

    // MARK: Candidates

    @Test("a candidate gives up, keeps its vote, and is not elected by votes that come late")
    func candidate() throws {
        let cluster = try RaftCluster(voters: [1, 2, 3])
        cluster[1].raft.campaign()
        try cluster.settle([2, 3])
        try cluster.work(cluster[1])
        for message in cluster.take({ $0.kind == .requestVote }) { cluster.deliver(message) }
        for id in [2, 3] as [UInt64] { try cluster.work(cluster[id]) }
        #expect(cluster[1].role == .candidate)
        damage(cluster[1], in: cluster)
        #expect(cluster[1].role == .follower && cluster[1].term == Term(1))
        #expect(cluster.network.count == 2)
        try cluster.settle()
        #expect(cluster[1].role == .follower && cluster[1].term == Term(1))
        // It has voted in this term, for itself.
        #expect(cluster[1].vote == PeerID(1))
        cluster.deliver(
            Message(
                kind: .requestVote, to: PeerID(1), from: PeerID(2), term: Term(1),
                logTerm: Term(1), index: LogIndex(9)))
        try cluster.work(cluster[1])
        #expect(cluster.network.map(\.reject) == [true])
    }

    @Test("a pre-candidate gives up, and a majority that comes late starts no election")
    func preCandidate() throws {
        let cluster = try RaftCluster(voters: [1, 2, 3]) { $0.preVote = true }
        cluster[1].raft.campaign()
        #expect(cluster[1].role == .preCandidate)
        cluster.collect(cluster[1])
        damage(cluster[1], in: cluster)
        #expect(cluster[1].role == .follower)
        try cluster.settle()
        #expect(cluster[1].role == .follower && cluster[1].term == .zero)
        #expect(cluster.peers.allSatisfy { $0.vote == .none })
    }

    // MARK: Followers

    /// Followers of no leader, with and without pre-votes.
    @Test(
        "it never campaigns: by the clock, when asked to, or when told to",
        arguments: [false, true])
    func follower(preVote: Bool) throws {
        func check(_ isDamaged: Bool, _ act: (RaftCluster) throws -> Void) throws -> Bool {
            let cluster = try RaftCluster(voters: [1, 2, 3]) { $0.preVote = preVote }
            try cluster.elect(1)
            cluster.tick(1)
            try cluster.settle()
            damage(cluster[2], in: cluster, isDamaged)
            #expect(cluster[2].leader == PeerID(1), "damage is no reason to forget the leader")
            let before = cluster[2].status
            try act(cluster)
            let isQuiet = cluster.network.isEmpty && !cluster[2].hasReady
            if isDamaged {
                #expect(cluster[2].role == .follower && cluster[2].term == Term(1))
                #expect(cluster[2].status.hardState == before.hardState)
            }
            return isQuiet
        }
        let ways: [(String, (RaftCluster) throws -> Void)] = [
            ("ticks", { $0.tick(2, 10_000) }),
            (
                "campaign()",
                {
                    $0[2].raft.campaign()
                    $0.collect($0[2])
                }
            ),
            (
                "timeoutNow",
                {
                    $0.deliver(
                        Message(
                            kind: .timeoutNow, to: PeerID(2), from: PeerID(1), term: Term(1)))
                }
            ),
            (
                "an election timeout that is shortened",
                {
                    $0[2].raft.setElectionTimeout(ticks: 1)
                    $0.tick(2, 1)
                }
            ),
            (
                "the end of its support",
                {
                    $0[2].raft.leaderSupported(until: $0[2].raft.ticks + 5)
                    $0.tick(2, 100)
                }
            ),
        ]
        for (way, act) in ways {
            #expect(try check(true, act), "\(way)")
            #expect(try !check(false, act), "\(way) makes a whole peer campaign")
        }
    }

    @Test("a transfer to it fails, and the leader goes on")
    func transferTo() throws {
        let cluster = try RaftCluster(voters: [1, 2, 3])
        try cluster.elect(1)
        damage(cluster[2], in: cluster)
        cluster[1].raft.transferLeadership(to: PeerID(2))
        try cluster.settle()
        #expect(cluster[1].isLeader && cluster[1].transferee == PeerID(2))
        for _ in 0..<20 {
            cluster.tick(1)
            try cluster.settle()
        }
        #expect(cluster[1].isLeader && cluster[1].transferee == .none)
        try cluster.propose("x", at: 1)
        try cluster.settle()
        #expect(cluster.peers.allSatisfy { $0.commands == ["x"] })
    }

    @Test("it campaigns again when it is whole")
    func wholeAgain() throws {
        let cluster = try RaftCluster(voters: [1, 2, 3])
        try cluster.elect(1)
        damage(cluster[2], in: cluster)
        cluster.tick(2, 1000)
        #expect(cluster.network.isEmpty)
        damage(cluster[2], in: cluster, false)
        #expect(!cluster[2].isDamaged)
        #expect(cluster[2].role == .follower, "that alone starts nothing")
        for _ in 0..<20 where cluster[2].role == .follower { cluster.tick(2) }
        #expect(cluster[2].role == .candidate)
        try cluster.settle()
        #expect(cluster[2].isLeader && cluster[2].term == Term(2))
        // Damage that is told of again, or taken back without having been there, does nothing.
        let before = cluster[2].status
        damage(cluster[2], in: cluster, false)
        #expect(cluster[2].status == before && cluster.network.isEmpty)
    }

    @Test("a fork of a damaged peer is damaged")
    func fork() throws {
        let cluster = try RaftCluster(voters: [1, 2, 3])
        for isDamaged in [true, false] {
            damage(cluster[2], in: cluster, isDamaged)
            let fork = cluster[2].raft.fork(storage: cluster[2].disk)
            let isForkDamaged = fork.isDamaged
            #expect(isForkDamaged == isDamaged)
        }
    }

    // MARK: The twin

    /// Two clusters under the same random inputs; in one of them the third peer is damaged. Its clock does
    /// not run in either, so that the whole one does not campaign.
    @Test(
        "it votes and acknowledges as a whole twin does", arguments: 1...20 as ClosedRange<UInt64>)
    func twin(seed: UInt64) throws {
        var random = SeededRandom(seed)
        let (preVote, checkQuorum) = (random.chance(50), random.chance(50))
        let twins = try (0..<2).map { _ in
            try RaftCluster(voters: [1, 2, 3], base: 3) {
                $0.preVote = preVote
                $0.checkQuorum = checkQuorum
                $0.maxMessageBytes = 100
            }
        }
        damage(twins[0][3], in: twins[0])
        var (votes, acknowledged) = (0, 0)
        for step in 0..<600 {
            let action = random.below(20)
            let (one, place) = (UInt64(1 + random.below(2)), random.below(1000))
            let some = UInt64(1 + random.below(3))
            for twin in twins {
                switch action {
                case 0: twin[one].raft.campaign()
                case 1, 2: twin.tick(one, 3)
                case 3, 4: _ = try? twin.propose("\(step)", at: one)
                case 5: try twin.restart(one)
                case 6 where !twin.network.isEmpty:
                    let lost = twin.network[place % twin.network.count]
                    twin.drop { $0 == lost }
                case 7...9: try twin.work(twin[some])
                case 10: try twin.write(twin[some])
                default:
                    guard !twin.network.isEmpty else { break }
                    let message = twin.network[place % twin.network.count]
                    twin.network.remove(at: place % twin.network.count)
                    // Told to take over, only one of the two would.
                    if message.kind != .timeoutNow { twin.deliver(message) }
                }
                for peer in twin.peers { twin.collect(peer) }
            }
            let said = twins[0].network.filter { $0.from == PeerID(3) }
            votes += said.count { $0.kind == .requestVoteResponse && !$0.reject }
            acknowledged += said.count { $0.kind == .appendEntriesResponse && !$0.reject }
            #expect(twins[0].network == twins[1].network, "step \(step)")
            for (damaged, whole) in zip(twins[0].peers, twins[1].peers) {
                #expect(damaged.status == whole.status, "step \(step)")
                #expect(damaged.appends == whole.appends, "step \(step)")
                #expect(damaged.applies == whole.applies, "step \(step)")
            }
            guard twins[0].network == twins[1].network else { return }
        }
        #expect(votes > 0 && acknowledged > 0)
        #expect(twins[0][3].isDamaged)
        #expect(twins[0][3].commands == twins[1][3].commands)
    }
}
