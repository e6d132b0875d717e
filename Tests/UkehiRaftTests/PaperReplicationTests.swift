// Raft §5.3 and §5.4: the log.

import Testing
import UkehiBase

@testable import UkehiRaft

@Suite("Raft paper, section 5.3: log replication")
struct PaperReplicationTests {
    @Test("an entry is committed once a majority holds it durably, the leader included by itself")
    func commitNeedsDurableMajority() throws {
        let cluster = try RaftCluster(voters: [1, 2, 3])
        try cluster.elect(1)
        let index = try cluster.propose("x", at: 1)
        cluster.collect(cluster[1])
        // Sent before the leader's own write is done, and that is not counted yet.
        let appends = cluster.take { $0.kind == .appendEntries }
        #expect(appends.count == 2)
        cluster.deliver(appends[0])
        try cluster.work(cluster[2])
        let answer = try #require(cluster.take { $0.kind == .appendEntriesResponse }.first)
        cluster.deliver(answer)
        #expect(cluster[1].committed < index)
        try cluster.write(cluster[1])
        #expect(cluster[1].committed == index)
    }

    @Test("followers apply what the leader says is committed, in order")
    func followersApply() throws {
        let cluster = try RaftCluster(voters: [1, 2, 3])
        try cluster.elect(1)
        for command in ["a", "b", "c"] { try cluster.propose(command, at: 1) }
        try cluster.settle()
        for peer in cluster.peers { #expect(peer.commands == ["a", "b", "c"]) }
    }

    @Test("an append that does not fit is refused, and the leader steps back until it does")
    func consistencyCheck() throws {
        let cluster = try RaftCluster(voters: [1, 2, 3])
        try cluster.setLog(of: 1, terms: [1, 1, 2, 2], term: 2)
        try cluster.setLog(of: 2, terms: [1], term: 1)
        try cluster.setLog(of: 3, terms: [1, 1, 2, 2], term: 2)
        try cluster.elect(1)
        #expect(cluster.terms(of: 2) == [1, 1, 2, 2, 3])
    }

    /// Figure 7: the leader of term 8 brings every log in line with its own.
    @Test(
        "Figure 7: missing and extra entries are repaired",
        arguments: [
            [1, 1, 1, 4, 4, 5, 5, 6, 6],
            [1, 1, 1, 4],
            [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
            [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
            [1, 1, 1, 4, 4, 4, 4],
            [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
        ] as [[UInt64]])
    func figure7(follower: [UInt64]) throws {
        let leader: [UInt64] = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6]
        let cluster = try RaftCluster(voters: [1, 2, 3])
        try cluster.setLog(of: 1, terms: leader, term: 7)
        try cluster.setLog(of: 2, terms: follower, term: 7)
        try cluster.setLog(of: 3, terms: [1], term: 7)
        // 3 helps to elect the leader; 2 only follows.
        cluster[1].raft.campaign()
        try cluster.settle([1, 3])
        cluster.tick(1)
        try cluster.settle()
        #expect(cluster.terms(of: 2) == leader + [8])
        #expect(cluster[2].disk.allEntries == cluster[1].disk.allEntries)
    }

    @Test("a conflict is found in at most one probe for each term (§5.3, last part)")
    func conflictBackOff() throws {
        let cluster = try RaftCluster(voters: [1, 2, 3])
        try cluster.setLog(
            of: 1, terms: [1, 3, 3, 3, 5] + [UInt64](repeating: 5, count: 100), term: 6)
        try cluster.setLog(
            of: 2, terms: [1, 1, 1, 1, 2] + [UInt64](repeating: 2, count: 200), term: 6)
        cluster[1].raft.campaign()
        try cluster.settle([1, 3])
        #expect(cluster[1].isLeader)
        cluster.tick(1)
        var rejections = 0
        while !cluster.network.isEmpty {
            for message in cluster.take({ _ in true }) {
                if message.reject { rejections += 1 }
                cluster.deliver(message)
                if message.to == PeerID(2) { try cluster.work(cluster[2]) }
            }
        }
        #expect(rejections <= 3)
        #expect(cluster.terms(of: 2) == cluster.terms(of: 1))
    }

    @Test("a shorter or older append never shortens a log (RULES 2)")
    func reorderedAppends() throws {
        let cluster = try RaftCluster(voters: [1, 2])
        try cluster.elect(1)
        for command in ["a", "b", "c"] {
            try cluster.propose(command, at: 1)
            cluster.collect(cluster[1])
        }
        let appends = cluster.take { $0.kind == .appendEntries }
        for message in appends + appends.reversed() { cluster.deliver(message) }
        try cluster.work(cluster[2])
        #expect(cluster.terms(of: 2) == [1, 1, 1, 1])
        #expect(cluster.take { $0.reject }.isEmpty)
    }

    @Test("the commit index a follower takes reaches no further than the append (RULES 2)")
    func commitIsClamped() throws {
        let cluster = try RaftCluster(voters: [1, 2, 3])
        // The last two entries are of a leader that never committed them.
        try cluster.setLog(of: 1, terms: [1, 1, 1], term: 1)
        try cluster[1].raft.step(
            Message(
                kind: .appendEntries, to: PeerID(1), from: PeerID(2), term: Term(2),
                logTerm: Term(1), index: LogIndex(1), commit: LogIndex(3)))
        #expect(cluster[1].committed == LogIndex(1))
    }

    @Test("an acknowledged append is durable: it survives a crash (RULES 1)")
    func acknowledgedSurvives() throws {
        let cluster = try RaftCluster(voters: [1, 2, 3])
        try cluster.elect(1)
        try cluster.propose("x", at: 1)
        cluster.collect(cluster[1])
        for message in cluster.take({ $0.to == PeerID(2) }) { cluster.deliver(message) }
        #expect(cluster.take { $0.from == PeerID(2) }.isEmpty, "nothing is said before the write")
        try cluster.restart(2)
        #expect(cluster.terms(of: 2) == [1])
        cluster.drop { _ in true }
        cluster.tick(1)
        try cluster.settle()
        try cluster.restart(2)
        #expect(cluster.terms(of: 2) == [1, 1])
    }

    @Test("a follower whose entries are compacted gets a snapshot, then the log goes on (§7)")
    func snapshot() throws {
        let cluster = try RaftCluster(voters: [1, 2, 3])
        try cluster.elect(1)
        for number in 0..<20 { try cluster.propose("\(number)", at: 1) }
        try cluster.settle([1, 2])
        cluster[1].disk.flushed = cluster[1].state
        try cluster[1].disk.compact(to: cluster[1].applied)
        cluster.tick(1)
        try cluster.settle()
        #expect(cluster[3].applied == cluster[1].applied)
        #expect(cluster[3].state.data == cluster[1].state.data)
        #expect(cluster[3].commands.isEmpty, "they came as a state, not as entries")
        try cluster.propose("after", at: 1)
        try cluster.settle()
        #expect(cluster[3].commands == ["after"])
        #expect(cluster[1].progress(of: 3)?.state == .replicate)
    }
}

@Suite("Raft paper, section 5.4: safety")
struct PaperSafetyTests {
    /// Figure 8: an entry of an earlier term on a majority is not committed by that.
    @Test("an entry of an earlier term is not committed by counting replicas (§5.4.2)")
    func earlierTermIsNotCommittedByCounting() throws {
        let cluster = try RaftCluster(voters: [1, 2, 3, 4, 5])
        // Panel (c): 1 leads term 4; its entry of term 2 at index 2 is on 1, 2, and now on 3.
        try cluster.setLog(of: 1, terms: [1, 2], term: 3)
        try cluster.setLog(of: 2, terms: [1, 2], term: 3)
        try cluster.setLog(of: 3, terms: [1], term: 3)
        try cluster.setLog(of: 4, terms: [1], term: 3)
        try cluster.setLog(of: 5, terms: [1, 3], term: 3)
        cluster[1].raft.campaign()
        for id in 1...4 as ClosedRange<UInt64> { try cluster.work(cluster[id]) }
        for message in cluster.take({ $0.kind == .requestVote && $0.to != PeerID(5) }) {
            cluster.deliver(message)
        }
        for id in 1...4 as ClosedRange<UInt64> { try cluster.work(cluster[id]) }
        for message in cluster.take({ $0.kind == .requestVoteResponse }) {
            cluster.deliver(message)
        }
        #expect(cluster[1].isLeader && cluster[1].term == Term(4))
        cluster.drop { _ in true }

        // The old entry, and no more, is acknowledged by 2 and 3.
        for id in [2, 3] as [UInt64] {
            try cluster[1].raft.step(
                Message(
                    kind: .appendEntriesResponse, to: PeerID(1), from: PeerID(id), term: Term(4),
                    index: LogIndex(2)))
        }
        try cluster.work(cluster[1])
        #expect(cluster[1].committed == .zero)

        // Panel (e): its own entry carries the old one.
        for id in [2, 3] as [UInt64] {
            try cluster[1].raft.step(
                Message(
                    kind: .appendEntriesResponse, to: PeerID(1), from: PeerID(id), term: Term(4),
                    index: LogIndex(3)))
        }
        #expect(cluster[1].committed == LogIndex(3))
    }

    @Test("a new leader holds every committed entry, and never overwrites its own (§5.4.3)")
    func leaderCompleteness() throws {
        let cluster = try RaftCluster(voters: [1, 2, 3])
        try cluster.elect(1)
        try cluster.propose("kept", at: 1)
        try cluster.settle([1, 2])
        #expect(cluster[1].committed == LogIndex(2))
        cluster[3].raft.campaign()
        try cluster.settle([2, 3])
        #expect(!cluster[3].isLeader, "3 lacks a committed entry")
        try cluster.elect(2, among: [2, 3])
        #expect(cluster[3].commands == ["kept"])
    }

    @Test("a leader starts its term with an entry of its own")
    func openingEntry() throws {
        let cluster = try RaftCluster(voters: [1, 2, 3])
        try cluster.elect(1)
        try cluster.elect(2)
        #expect(cluster.terms(of: 2) == [1, 2])
        #expect(cluster[1].committed == LogIndex(2))
    }
}
