// What a member of the cluster may say without harm to the others: bytes of a peer are errors or
// nothing, never the end of a node (DESIGN 9).

import Testing
import UkehiBase
import UkehiRaft
import UkehiState

@testable import UkehiNode
@testable import UkehiWAL

@Suite("Peers that say what no correct peer says")
struct HostilePeerTests {
    private let region = RegionID(2)

    /// A cluster of three with one user region, and one of its followers.
    private func cluster() throws -> (cluster: TestCluster, leader: Int, follower: Int) {
        let cluster = TestCluster(nodes: 3, regions: 1)
        try cluster.startAll()
        cluster.pass(milliseconds: 3000)
        let leader = try #require(cluster.leader(of: "k"))
        return (cluster, leader, (leader + 1) % 3)
    }

    private func peer(_ cluster: TestCluster, _ number: Int) throws -> Region {
        try #require(cluster.members[number].core?.lanes[0].regions[region])
    }

    private func deliver(
        _ message: Message, from sender: Int, to receiver: Int, _ cluster: TestCluster
    ) throws {
        let epoch = try peer(cluster, receiver).descriptor.epoch
        let node = try #require(cluster.members[sender].core?.nodeID)
        cluster.members[receiver].core?.received(
            [RegionMessage(region: region, epoch: epoch, message: message)], from: node)
        cluster.settle()
    }

    @Test("a snapshot, which no node stores yet, is not acknowledged and changes nothing")
    func snapshot() throws {
        let (cluster, leader, follower) = try cluster()
        let from = try peer(cluster, leader)
        let to = try peer(cluster, follower)
        let before = to.raft.lastIndex
        var acknowledged = LogIndex.zero
        cluster.network.drops = { packet in
            for item in packet.messages where item.message.from == to.peer {
                acknowledged = max(acknowledged, item.message.index)
            }
            return false
        }
        let voters = from.descriptor.peers.map(\.peer)
        let claimed = Snapshot(
            index: before + 100, term: from.raft.term,
            configuration: ConfigurationState(voters: voters))
        try deliver(
            Message(
                kind: .installSnapshot, to: to.peer, from: from.peer, term: from.raft.term,
                snapshot: claimed), from: leader, to: follower, cluster)
        #expect(to.raft.lastIndex == before)
        #expect(acknowledged <= before, "what was never stored was acknowledged")
        // And what follows it would leave a gap in the log.
        try deliver(
            Message(
                kind: .appendEntries, to: to.peer, from: from.peer, term: from.raft.term,
                logTerm: from.raft.term, index: before + 100,
                entries: [Entry(term: from.raft.term, index: before + 101)]), from: leader,
            to: follower, cluster)
        guard case .command(.applied)? = try cluster.write(.put(key: "k", value: "v")) else {
            Issue.record("the region does not write any more")
            return
        }
        cluster.pass(milliseconds: 500)
        #expect(to.log.lastIndex == from.log.lastIndex)
        #expect(cluster.failures.isEmpty)
    }

    @Test("requests for entries, and answers to them, that nobody sends are not answered")
    func damagedEntries() throws {
        let (cluster, leader, follower) = try cluster()
        let from = try peer(cluster, leader)
        let to = try peer(cluster, follower)
        for number in 0..<3 {
            _ = try cluster.write(.put(key: "k", value: Bytes("\(number)")))
        }
        let last = to.log.lastIndex
        #expect(last > LogIndex(2))
        let bad = [.zero, LogIndex(1), last, last + 1, LogIndex(.max)]
        var answered = 0
        cluster.network.drops = { packet in
            for item in packet.messages where item.message.kind == .requestEntriesResponse {
                if item.message.from == to.peer { answered += 1 }
            }
            return false
        }
        for index in bad {
            for commit in bad {
                for kind in [MessageKind.requestEntries, .requestEntriesResponse] {
                    try deliver(
                        Message(
                            kind: kind, to: to.peer, from: from.peer, term: from.raft.term,
                            logTerm: from.raft.term, index: index, commit: commit,
                            entries: [Entry(term: from.raft.term, index: commit)]),
                        from: leader, to: follower, cluster)
                }
            }
        }
        // The first, the last, and all of them were rightly asked for.
        #expect(answered == 3)
        try deliver(
            Message(
                kind: .requestEntries, to: from.peer, from: from.peer, term: from.raft.term,
                logTerm: from.raft.term, index: last, commit: last), from: leader, to: follower,
            cluster)
        #expect(answered == 3, "it is for another peer")
        #expect(cluster.failures.isEmpty)
    }

    @Test("a compaction past every index drops no more than what stands before it")
    func compaction() throws {
        let (cluster, leader, follower) = try cluster()
        let from = try peer(cluster, leader)
        let to = try peer(cluster, follower)
        let last = from.raft.lastIndex
        let entry = Entry(
            term: from.raft.term, index: last + 1,
            data: EntryPayload.encode(
                admin: .compactLog(upTo: LogIndex(.max)), epoch: to.descriptor.epoch, time: 1))
        try deliver(
            Message(
                kind: .appendEntries, to: to.peer, from: from.peer, term: from.raft.term,
                logTerm: from.raft.lastTerm, index: last, commit: last + 1, entries: [entry]),
            from: leader, to: follower, cluster)
        #expect(to.applied == last + 1)
        #expect(to.compactionTarget <= last + 1)
        // It leads, and goes on compacting by itself.
        let third = 3 - leader - follower
        let away = try #require(cluster.members[leader].core?.nodeID)
        cluster.network.drops = { $0.from == away || $0.to == away }
        cluster.pass(milliseconds: 6000)
        #expect(cluster.members[follower].core?.leads("k") == true)
        _ = third
        #expect(cluster.failures.isEmpty)
    }
}
