// Writes that come while their region is being divided.

import Testing
import UkehiBase
import UkehiEnvironment
import UkehiRaft
import UkehiState
import UkehiWAL

@testable import UkehiNode

@Suite("writes behind a division")
struct HeldWritesTests {
    private func started() throws -> TestCluster {
        let cluster = TestCluster(nodes: 3, regions: 1, storeSeed: 1)
        try cluster.startAll()
        cluster.pass(milliseconds: 3000)
        for key in ["a", "t", "z"] as [Bytes] {
            _ = try cluster.write(.put(key: key, value: key))
        }
        return cluster
    }

    @Test(
        "writes that come while it is being divided are proposed behind that, or sent on (RULES 23)"
    )
    func heldBack() throws {
        let cluster = try started()
        let leader = try #require(cluster.leader(of: "a"))
        let region = try #require(cluster.region(leader))
        let peers = (0..<3).map { PeerID(UInt64(900 + $0)) }
        let place = try #require(
            cluster.descriptor()?.peers.firstIndex { $0.node == cluster.node(leader) })
        cluster.network.drops = { _ in true }
        try cluster.members[leader].core?.lanes[0].propose(
            SplitCommand(parts: [
                .init(region: RegionID(90), end: "h", leader: peers[place], peers: peers)
            ]), in: TestCluster.id)
        cluster.settle()
        let last = region.raft.lastIndex
        func put(_ key: Bytes, patience: Int? = nil) throws -> UInt64 {
            let record = try Command.put(key: key, value: "new").encoded()
            return cluster.submit(leader, .write(record: record), key: key, patience: patience)
        }
        let (gone, kept) = (try put("a"), try put("t"))
        let impatient = try put("z", patience: 10)
        cluster.settle()
        let after = region.raft.lastIndex
        #expect(after == last && region.pendingWrites.count == 3)
        cluster.clock.advance(milliseconds: 20)
        cluster.network.drops = { _ in false }
        cluster.pass(milliseconds: 1000)
        guard case .failed(.rejected(.staleEpoch))? = cluster.sink.replies[gone],
            case .command(.applied)? = cluster.sink.replies[kept],
            case .failed(.rejected(.timedOut))? = cluster.sink.replies[impatient]
        else {
            Issue.record("\(cluster.sink.replies)")
            return
        }
        #expect(region.pendingWrites.isEmpty && region.pendingWriteBytes == 0)
        #expect(cluster.failures.isEmpty)
    }

    @Test(
        "of what is held back there is a bound, and it is judged again by the room that there is then"
    )
    func heldWithoutRoom() throws {
        let cluster = try started()
        let leader = try #require(cluster.leader(of: "a"))
        let region = try #require(cluster.region(leader))
        let lane = try #require(cluster.members[leader].core?.lanes[0])
        region.proposedSplit = region.applied + 1
        func put(_ bytes: Int) throws -> UInt64 {
            let value = Bytes([UInt8](repeating: 1, count: bytes))
            let record = try Command.put(key: "t", value: value).encoded()
            return cluster.submit(leader, .write(record: record), key: "t")
        }
        let small = try put(10)
        let delete = cluster.submit(
            leader, .write(record: try Command.delete(key: "z").encoded()), key: "z")
        var large: [UInt64] = []
        for _ in 0..<5 { large.append(try put(1 << 20)) }
        cluster.settle()
        #expect(region.pendingWrites.count == 5)
        #expect(region.pendingWriteBytes <= Limits.maxHeldWriteBytes)
        // The volume fills meanwhile.
        lane.room = .scarce
        lane.roomBytes = 256 << 10
        region.proposedSplit = .zero
        lane.markDirty(region)
        lane.runPass()
        cluster.settle()
        for tag in [small, large[0]] {
            guard case .failed(.rejected(.diskFull))? = cluster.sink.replies[tag] else {
                Issue.record("\(String(describing: cluster.sink.replies[tag]))")
                continue
            }
        }
        guard case .failed(.rejected(.overloaded))? = cluster.sink.replies[large[4]],
            case .command(.applied)? = cluster.sink.replies[delete]
        else {
            Issue.record("\(cluster.sink.replies)")
            return
        }
        #expect(region.pendingWriteBytes == 0 && cluster.failures.isEmpty)
    }
}
