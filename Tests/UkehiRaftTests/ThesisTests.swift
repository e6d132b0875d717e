// The thesis's additions: pre-vote (§9.6), quorum checks (§6.2), leadership transfer (§3.10), linearizable
// reads (§6.4).

import Testing
import UkehiBase

@testable import UkehiRaft

@Suite("Thesis: pre-vote and quorum check (RULES 5)")
struct PreVoteTests {
    @Test("a peer that comes back from a partition does not disturb the leader")
    func noDisruption() throws {
        let cluster = try RaftCluster(voters: [1, 2, 3]) {
            $0.preVote = true
            $0.checkQuorum = true
        }
        try cluster.elect(1)
        cluster.tick(3, 200)
        cluster.drop { _ in true }
        #expect(cluster[3].term == Term(1), "asking raises no term")
        cluster[3].raft.campaign()
        try cluster.settle()
        #expect(cluster[1].isLeader && cluster[1].term == Term(1))
        cluster.tick(1)
        try cluster.settle()
        #expect(cluster[3].leader == PeerID(1))
    }

    @Test("a pre-candidate with a majority goes on to a real election")
    func preVoteWins() throws {
        let cluster = try RaftCluster(voters: [1, 2, 3]) { $0.preVote = true }
        cluster[1].raft.campaign()
        #expect(cluster[1].role == .preCandidate && cluster[1].term == .zero)
        #expect(cluster[1].vote == .none)
        try cluster.settle()
        #expect(cluster[1].isLeader && cluster[1].term == Term(1))
    }

    @Test("a peer stuck with a higher term frees itself through the leader (RULES 5)")
    func stuckPeerIsFreed() throws {
        let cluster = try RaftCluster(voters: [1, 2, 3]) { $0.checkQuorum = true }
        try cluster.elect(1)
        cluster[3].raft.campaign()
        cluster[3].raft.campaign()
        cluster.collect(cluster[3])
        cluster.drop { _ in true }
        #expect(cluster[3].term == Term(3))
        cluster.tick(1)
        try cluster.settle()
        #expect(cluster[1].term == Term(3) && !cluster[1].isLeader)
        try cluster.elect(1)
        #expect(cluster[3].leader == PeerID(1) && cluster[1].term == Term(4))
    }

    @Test("a leader that a quorum does not answer steps down within two election timeouts")
    func checkQuorum() throws {
        let cluster = try RaftCluster(voters: [1, 2, 3]) { $0.checkQuorum = true }
        try cluster.elect(1)
        cluster.tick(1, 20)
        #expect(cluster[1].role == .follower)
        #expect(cluster[1].leader == .none)
    }

    @Test("followers that hear their leader ignore candidates, but not after its silence")
    func voteLease() throws {
        let cluster = try RaftCluster(voters: [1, 2, 3]) { $0.checkQuorum = true }
        try cluster.elect(1)
        cluster[3].raft.campaign()
        try cluster.settle([2, 3])
        #expect(!cluster[3].isLeader && cluster[2].term == Term(1))
        cluster[2].raft.setElectionTimeout(ticks: 100)
        cluster.tick(2, 10)
        try cluster.elect(3, among: [2, 3])
    }
}

@Suite("Thesis: leadership transfer")
struct TransferTests {
    @Test("a peer that is up to date takes over at once, past the vote lease and the pre-vote")
    func transfer() throws {
        let cluster = try RaftCluster(voters: [1, 2, 3]) {
            $0.preVote = true
            $0.checkQuorum = true
        }
        try cluster.elect(1)
        #expect(!cluster[1].mayHaveAbdicated)
        cluster[1].raft.transferLeadership(to: PeerID(3))
        #expect(cluster[1].mayHaveAbdicated)
        try cluster.settle()
        #expect(cluster[3].isLeader && cluster[1].leader == PeerID(3))
    }

    @Test("a peer that is behind is brought up to date first; proposals wait meanwhile")
    func transferToStraggler() throws {
        let cluster = try RaftCluster(voters: [1, 2, 3])
        try cluster.elect(1)
        try cluster.propose("x", at: 1)
        try cluster.settle([1, 2])
        cluster[1].raft.transferLeadership(to: PeerID(3))
        #expect(throws: RaftError.proposalDropped(.transferring(to: PeerID(3)))) {
            try cluster.propose("y", at: 1)
        }
        cluster.tick(1)
        try cluster.settle()
        #expect(cluster[3].isLeader && cluster[3].commands == ["x"])
    }

    @Test("a transfer that fails is given up after an election timeout")
    func transferTimesOut() throws {
        let cluster = try RaftCluster(voters: [1, 2, 3])
        try cluster.elect(1)
        cluster[1].raft.transferLeadership(to: PeerID(3))
        cluster.drop { _ in true }
        cluster.tick(1, 10)
        cluster.drop { _ in true }
        #expect(cluster[1].transferee == .none)
        try cluster.propose("x", at: 1)
        #expect(cluster[1].mayHaveAbdicated, "the request may still arrive")
    }

    @Test("a follower passes the wish on to the leader")
    func forwardedTransfer() throws {
        let cluster = try RaftCluster(voters: [1, 2, 3])
        try cluster.elect(1)
        cluster[2].raft.transferLeadership(to: PeerID(2))
        try cluster.settle()
        #expect(cluster[2].isLeader)
    }
}

@Suite("Thesis: linearizable reads (RULES 52)")
struct ReadIndexTests {
    @Test("a read waits for a quorum to confirm the leader")
    func quorumRead() throws {
        let cluster = try RaftCluster(voters: [1, 2, 3])
        try cluster.elect(1)
        try cluster[1].raft.readIndex(context: "r1")
        try cluster.work(cluster[1])
        #expect(cluster[1].readStates.isEmpty)
        try cluster.settle([1, 2])
        #expect(cluster[1].readStates == [ReadState(index: LogIndex(1), context: "r1")])
    }

    @Test("a deposed leader that does not know it yet confirms nothing")
    func deposedLeader() throws {
        let cluster = try RaftCluster(voters: [1, 2, 3])
        try cluster.elect(1)
        try cluster.elect(2, among: [2, 3])
        #expect(cluster[1].isLeader)
        try cluster[1].raft.readIndex(context: "stale")
        try cluster.settle()
        #expect(cluster[1].readStates.isEmpty)
    }

    @Test("a read before the first commit of the term waits for it")
    func earlyRead() throws {
        let cluster = try RaftCluster(voters: [1, 2, 3])
        try cluster.setLog(of: 1, terms: [1, 1], term: 1)
        cluster[1].raft.campaign()
        for id in 1...3 as ClosedRange<UInt64> { try cluster.work(cluster[id]) }
        for message in cluster.take({ _ in true }) { cluster.deliver(message) }
        for id in 2...3 as ClosedRange<UInt64> { try cluster.work(cluster[id]) }
        for message in cluster.take({ _ in true }) { cluster.deliver(message) }
        #expect(cluster[1].isLeader && cluster[1].committed == .zero)
        try cluster[1].raft.readIndex(context: "early")
        try cluster.settle()
        #expect(cluster[1].readStates == [ReadState(index: LogIndex(3), context: "early")])
    }

    @Test("one round confirms every read asked before it was sent, and none after")
    func batches() throws {
        let cluster = try RaftCluster(voters: [1, 2, 3])
        try cluster.elect(1)
        for name in ["a", "b"] { try cluster[1].raft.readIndex(context: Bytes(name)) }
        cluster.collect(cluster[1])
        let newest = try #require(cluster.take { $0.to == PeerID(2) }.last)
        try cluster[1].raft.readIndex(context: "c")
        cluster.collect(cluster[1])
        cluster.drop { _ in true }
        cluster.deliver(newest)
        try cluster.settle([1, 2])
        #expect(cluster[1].readStates.map(\.context) == ["a", "b"])
        cluster.tick(1)
        try cluster.settle([1, 2])
        #expect(cluster[1].readStates.map(\.context) == ["a", "b", "c"])
    }

    @Test("a follower asks the leader")
    func followerRead() throws {
        let cluster = try RaftCluster(voters: [1, 2, 3])
        #expect(throws: RaftError.noLeader) { try cluster[2].raft.readIndex(context: "r") }
        try cluster.elect(1)
        try cluster[2].raft.readIndex(context: "r")
        try cluster.settle()
        #expect(cluster[2].readStates == [ReadState(index: LogIndex(1), context: "r")])
    }

    @Test("a lease read is answered at once, after the first commit of the term")
    func leaseRead() throws {
        let cluster = try RaftCluster(voters: [1, 2, 3]) {
            $0.checkQuorum = true
            $0.readMode = .lease
        }
        try cluster.elect(1)
        try cluster[1].raft.readIndex(context: "r")
        cluster.collect(cluster[1])
        #expect(cluster[1].readStates.count == 1)
        #expect(cluster.network.isEmpty)
    }

    @Test("a group of one answers at once")
    func singleton() throws {
        let cluster = try RaftCluster(voters: [1])
        try cluster.elect(1)
        try cluster[1].raft.readIndex(context: "r")
        cluster.collect(cluster[1])
        #expect(cluster[1].readStates.count == 1)
    }
}
