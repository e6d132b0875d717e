// Raft §5.1 and §5.2: terms and elections.

import Testing
import UkehiBase

@testable import UkehiRaft

@Suite("Raft paper, sections 5.1 and 5.2: terms and elections")
struct PaperElectionTests {
    @Test("a higher term in any message makes a follower of every role (§5.1)")
    func higherTermMakesFollower() throws {
        for role in [Role.follower, .candidate, .leader] {
            let cluster = try RaftCluster(voters: [1, 2, 3])
            if role != .follower { cluster[1].raft.campaign() }
            if role == .leader { try cluster.settle() }
            #expect(cluster[1].role == role)
            try cluster[1].raft.step(
                Message(
                    kind: .appendEntries, to: PeerID(1), from: PeerID(2),
                    term: Term(cluster[1].term.rawValue + 5)))
            #expect(cluster[1].role == .follower)
            #expect(cluster[1].leader == PeerID(2))
        }
    }

    @Test("a message of an old term changes nothing (§5.1)")
    func oldTermIsIgnored() throws {
        let cluster = try RaftCluster(voters: [1, 2, 3])
        try cluster.elect(1)
        let before = cluster[2].status
        try cluster[2].raft.step(
            Message(
                kind: .requestVote, to: PeerID(2), from: PeerID(3), term: Term(0 + 1),
                logTerm: Term(9), index: LogIndex(99)))
        #expect(cluster[2].status == before)
        cluster.drop { _ in true }
        try cluster[1].raft.step(
            Message(kind: .heartbeatResponse, to: PeerID(1), from: PeerID(3), term: Term(1)))
        #expect(cluster[1].isLeader)
    }

    @Test("a follower that hears nothing campaigns after its timeout, and votes for itself (§5.2)")
    func followerCampaigns() throws {
        let cluster = try RaftCluster(voters: [1, 2, 3])
        cluster[1].raft.setElectionTimeout(ticks: 13)
        cluster.tick(1, 12)
        #expect(cluster[1].role == .follower)
        cluster.tick(1)
        #expect(cluster[1].role == .candidate)
        #expect(cluster[1].term == Term(1) && cluster[1].vote == PeerID(1))
        #expect(cluster.network.map(\.kind) == [.requestVote, .requestVote])
    }

    @Test("heartbeats of the leader keep followers quiet (§5.2)")
    func heartbeatsHoldFollowers() throws {
        let cluster = try RaftCluster(voters: [1, 2, 3])
        try cluster.elect(1)
        for _ in 0..<60 {
            for id in 1...3 as ClosedRange<UInt64> { cluster.tick(id) }
            try cluster.settle()
        }
        #expect(cluster[1].isLeader)
        #expect(cluster[1].term == Term(1))
    }

    @Test("timeouts are random, between one and two election timeouts (§5.2)")
    func timeoutsAreSpread() throws {
        var seen: Set<Int> = []
        for seed in 0..<200 as Range<UInt64> {
            let cluster = try RaftCluster(voters: [1, 2, 3]) { $0.seed = seed }
            var ticks = 0
            while cluster[1].role == .follower {
                cluster.tick(1)
                ticks += 1
            }
            seen.insert(ticks)
        }
        #expect(seen == Set(10...19))
    }

    @Test("peers of a group rarely time out together (§5.2)")
    func timeoutsDifferWithinGroup() throws {
        var collisions = 0
        for seed in 0..<300 as Range<UInt64> {
            let cluster = try RaftCluster(voters: [1, 2, 3]) { $0.seed = seed }
            var ticks = 0
            while cluster.peers.allSatisfy({ $0.role == .follower }) {
                for id in 1...3 as ClosedRange<UInt64> { cluster.tick(id) }
                ticks += 1
            }
            if cluster.peers.count(where: { $0.role == .candidate }) > 1 { collisions += 1 }
        }
        // Three draws of ten values: the lowest is shared in about 14 of 100.
        #expect(collisions < 75)
    }

    @Test(
        "a candidate wins with a majority of the votes (§5.2)",
        arguments: [
            (1, 0, Role.leader), (3, 0, .candidate), (3, 1, .leader), (5, 1, .candidate),
            (5, 2, .leader), (4, 1, .candidate), (4, 2, .leader),
        ])
    func majorityWins(size: Int, granted: Int, expected: Role) throws {
        let cluster = try RaftCluster(voters: (1...UInt64(size)).map { $0 })
        cluster[1].raft.campaign()
        try cluster.work(cluster[1])
        for peer in 0..<granted {
            try cluster[1].raft.step(
                Message(
                    kind: .requestVoteResponse, to: PeerID(1), from: PeerID(UInt64(peer) + 2),
                    term: Term(1)))
        }
        #expect(cluster[1].role == expected)
    }

    @Test("a peer votes once in a term, first come, first served (§5.2)")
    func oneVoteATerm() throws {
        let cluster = try RaftCluster(voters: [1, 2, 3])
        func ask(_ candidate: UInt64) throws -> Bool {
            try cluster[1].raft.step(
                Message(
                    kind: .requestVote, to: PeerID(1), from: PeerID(candidate), term: Term(1)))
            try cluster.work(cluster[1])
            let answers = cluster.take { $0.kind == .requestVoteResponse }
            return try !#require(answers.first).reject
        }
        #expect(try ask(2))
        #expect(try !ask(3))
        #expect(try ask(2), "a repeated request gets the same answer")
        try cluster.restart(1)
        #expect(try !ask(3), "the vote was durable before it was given (RULES 1)")
    }

    @Test("a vote is not sent before it is durable (RULES 1)")
    func voteWaitsForDisk() throws {
        let cluster = try RaftCluster(voters: [1, 2, 3])
        try cluster[1].raft.step(
            Message(kind: .requestVote, to: PeerID(1), from: PeerID(2), term: Term(1)))
        cluster.collect(cluster[1])
        #expect(cluster.network.isEmpty)
        try cluster.write(cluster[1])
        #expect(cluster.network.map(\.kind) == [.requestVoteResponse])
        #expect(cluster[1].disk.initialState().hardState.vote == PeerID(2))
    }

    @Test("a candidate that hears a leader of its term follows it (§5.2)")
    func candidateFollows() throws {
        let cluster = try RaftCluster(voters: [1, 2, 3])
        cluster[1].raft.campaign()
        try cluster[1].raft.step(
            Message(kind: .heartbeat, to: PeerID(1), from: PeerID(3), term: Term(1)))
        #expect(cluster[1].role == .follower && cluster[1].leader == PeerID(3))
    }

    @Test("with a split vote nobody wins, and the next term decides (§5.2)")
    func splitVote() throws {
        let cluster = try RaftCluster(voters: [1, 2, 3, 4])
        cluster[1].raft.campaign()
        cluster[2].raft.campaign()
        for id in 1...2 as ClosedRange<UInt64> { try cluster.work(cluster[id]) }
        // 3 hears 1 first, 4 hears 2 first.
        for message in cluster.take({ _ in true }).filter({
            ($0.from, $0.to) == (PeerID(1), PeerID(3)) || ($0.from, $0.to) == (PeerID(2), PeerID(4))
        }) { cluster.deliver(message) }
        try cluster.settle()
        #expect(cluster.peers.allSatisfy { !$0.isLeader })
        try cluster.elect(3)
        #expect(cluster[3].term == Term(2))
    }

    @Test(
        "an election needs the more complete log (§5.4.1)",
        arguments: [
            ([1, 1], [1, 1], true), ([1, 1], [1, 1, 1], false), ([1, 2], [1, 1, 1], true),
            ([1, 1, 1], [1, 2], false), ([1, 1, 1], [1, 1], true),
        ] as [([UInt64], [UInt64], Bool)])
    func electionRestriction(candidate: [UInt64], voter: [UInt64], wins: Bool) throws {
        let cluster = try RaftCluster(voters: [1, 2])
        try cluster.setLog(of: 1, terms: candidate, term: 3)
        try cluster.setLog(of: 2, terms: voter, term: 3)
        cluster[1].raft.campaign()
        try cluster.settle()
        #expect(cluster[1].isLeader == wins)
    }
}
