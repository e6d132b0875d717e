// A node whose log does not answer neither leads nor asks to.

import Testing
import UkehiBase
import UkehiEnvironment
import UkehiRaft
import UkehiState

@testable import UkehiNode

@Suite("Logs that do not answer")
struct StalledLogTests {
    private static let key: Bytes = "k"

    private func write(_ cluster: TestCluster, at number: Int) throws -> UInt64 {
        cluster.submit(
            number, .write(record: try Command.put(key: Self.key, value: "v").encoded()),
            key: Self.key)
    }

    private func started() throws -> (cluster: TestCluster, leader: Int) {
        let cluster = TestCluster(nodes: 3, regions: 2)
        try cluster.startAll()
        cluster.pass(milliseconds: 3000)
        return (cluster, try #require(cluster.leader(of: Self.key)))
    }

    private func region(
        _ cluster: TestCluster, _ number: Int, _ key: Bytes = StalledLogTests.key
    ) throws -> Region {
        try #require(
            cluster.members[number].core?.lanes[0].orderedRegions.first {
                $0.descriptor.range.contains(key) && !$0.descriptor.isSystem
            })
    }

    @Test("its leaders go to other nodes, in one election, and nothing is lost")
    func leader() throws {
        let (cluster, old) = try started()
        let term = try region(cluster, old).raft.term
        cluster.heldLogs = [old]
        let first = try write(cluster, at: old)
        cluster.settle()
        // The others have it, and that is enough.
        #expect(try region(cluster, old).raft.committed == region(cluster, old).raft.lastIndex)
        cluster.pass(milliseconds: 1900)
        #expect(cluster.leader(of: Self.key) == old)
        cluster.pass(milliseconds: 400)
        let new = try #require(cluster.leader(of: Self.key))
        #expect(new != old)
        #expect(try region(cluster, new).raft.term.rawValue == term.rawValue + 1)
        #expect(try region(cluster, old).isLeader == false)
        for lane in try #require(cluster.members[old].core).lanes {
            #expect(!lane.orderedRegions.contains { $0.isLeader })
        }
        let second = try write(cluster, at: new)
        cluster.pass(milliseconds: 5000)
        #expect(cluster.leader(of: Self.key) == new)
        cluster.heldLogs = []
        cluster.pass(milliseconds: 3000)
        #expect(try region(cluster, old).applied == region(cluster, new).applied)
        #expect(cluster.members[old].core?.lanes[0].logStall == nil)
        for tag in [first, second] {
            guard case .command(.applied)? = cluster.sink.replies[tag] else {
                Issue.record("\(String(describing: cluster.sink.replies[tag]))")
                continue
            }
        }
        #expect(cluster.failures.isEmpty)
    }

    @Test("its peers do not campaign before what they asked for is durable")
    func follower() throws {
        let (cluster, leader) = try started()
        let stalled = (leader + 1) % 3
        cluster.heldLogs = [stalled]
        _ = try write(cluster, at: leader)
        cluster.settle()
        let node = try #require(cluster.members[stalled].core?.nodeID)
        cluster.network.drops = { $0.to == node || $0.from == node }
        // Patience with a leader is shorter than with the log: it may ask at first.
        cluster.pass(milliseconds: 2500)
        let region = try region(cluster, stalled)
        var asked = 0
        cluster.network.drops = { packet in
            asked += packet.messages.count {
                $0.message.kind == .requestPreVote && packet.from == node
            }
            return packet.to == node || packet.from == node
        }
        cluster.pass(milliseconds: 10_000)
        #expect(asked == 0)
        cluster.heldLogs = []
        cluster.pass(milliseconds: 2500)
        #expect(asked > 0)
        cluster.network.drops = { _ in false }
        cluster.pass(milliseconds: 3000)
        #expect(region.leaderNode != nil && cluster.failures.isEmpty)
    }

    @Test("leadership is not taken by a node that could not write its vote")
    func heir() throws {
        let (cluster, writer) = try started()
        // Of another region, in which nothing is under way.
        let still: Bytes = "0"
        let leader = try #require(cluster.leader(of: still))
        let stalled = try #require((0..<3).first { $0 != writer && $0 != leader })
        let core = try #require(cluster.members[leader].core)
        let region = try region(cluster, leader, still)
        let heir = try self.region(cluster, stalled, still)
        #expect(try self.region(cluster, stalled).id != region.id)
        func transfer() {
            core.lanes[0].transferLeadership(of: region.id, to: heir.peer)
            cluster.settle()
        }
        let term = region.raft.term
        cluster.heldLogs = [stalled]
        _ = try write(cluster, at: writer)
        cluster.pass(milliseconds: 2500)
        transfer()
        cluster.pass(milliseconds: 2500)
        #expect(cluster.leader(of: still) == leader)
        #expect(heir.raft.term == term && heir.raft.role == .follower)
        cluster.heldLogs = []
        cluster.pass(milliseconds: 1000)
        transfer()
        #expect(cluster.leader(of: still) == stalled)
        #expect(cluster.failures.isEmpty)
    }
}
