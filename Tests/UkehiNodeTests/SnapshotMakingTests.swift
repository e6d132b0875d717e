// A snapshot that takes longer to make than a peer is waited for in silence.

import Testing
import UkehiBase
import UkehiRaft
import UkehiSimulation
import UkehiState

@testable import UkehiNode

@Suite("Snapshots that take long to make")
struct SnapshotMakingTests {
    private func outgoing(_ lagging: SnapshotTests.Lagging) throws -> OutgoingSnapshot {
        let lane = try SnapshotTests.lane(lagging.cluster, lagging.leader)
        return try #require(lane.snapshots.outgoing.first)
    }

    @Test("a peer waits for as long as one is being made for it, and it is made once")
    func waitsForIt() throws {
        let making = HeldWorker()
        let lagging = try SnapshotTests.lagging(making: making)
        let cluster = lagging.cluster
        making.isHolding = true
        try cluster.start(lagging.lagging)
        cluster.pass(milliseconds: 1500)
        let begun = try SnapshotTests.lane(cluster, lagging.lagging).snapshots.incoming.first
        #expect(making.held.count == 1 && begun != nil)
        cluster.pass(milliseconds: 20_000)
        #expect(making.held.count == 1)
        let waits = try SnapshotTests.lane(cluster, lagging.lagging).snapshots.incoming.first
        #expect(waits?.pace.begunAt == begun?.pace.begunAt)
        making.isHolding = false
        making.release()
        cluster.pass(milliseconds: 4000)
        try SnapshotTests.expectCaughtUp(lagging)
    }

    @Test("one that was begun for a peer that was given up is not given to it when it is back")
    func begunBefore() throws {
        let making = HeldWorker()
        var lagging = try SnapshotTests.lagging(making: making)
        let cluster = lagging.cluster
        let leader = try SnapshotTests.peer(cluster, lagging.leader)
        making.isHolding = true
        try cluster.start(lagging.lagging)
        cluster.pass(milliseconds: 1500)
        #expect(making.held.count == 1)
        let before = leader.applied

        // It is away for so long that nothing is kept for it.
        cluster.crash(lagging.lagging, seed: 3)
        cluster.pass(milliseconds: 8000)
        #expect(try SnapshotTests.lane(cluster, lagging.leader).snapshots.isIdle)
        // What is done only now holds what was there when it was begun.
        let old = making.takeFirst()
        old()
        cluster.pass(milliseconds: 100)
        #expect(try SnapshotTests.files(cluster, lagging.leader) == [])

        // The same, but it comes back before the old one is done.
        try cluster.start(lagging.lagging)
        cluster.pass(milliseconds: 1500)
        #expect(making.held.count == 1)
        cluster.crash(lagging.lagging, seed: 4)
        cluster.pass(milliseconds: 8000)
        lagging.expected.merge(try SnapshotTests.write(cluster, "meanwhile", 40)) { $1 }
        for _ in 0..<4 {
            cluster.pass(milliseconds: 1500)
            SnapshotTests.flush(cluster)
        }
        #expect(leader.log.firstIndex > before + 20)
        try cluster.start(lagging.lagging)
        cluster.pass(milliseconds: 1500)
        guard making.held.count == 2, case .making(let id) = try outgoing(lagging).stage else {
            throw SnapshotTests.Unexpected(what: "\(making.held.count) being made")
        }
        making.releaseOne()
        cluster.pass(milliseconds: 300)
        guard case .making(id) = try outgoing(lagging).stage else {
            throw SnapshotTests.Unexpected(what: "another's was taken")
        }
        making.isHolding = false
        making.release()
        cluster.pass(milliseconds: 6000)
        try SnapshotTests.expectCaughtUp(lagging)
    }

    @Test("a peer that turns out to have what it is offered again is brought on by the log")
    func offeredAgain() throws {
        let lagging = try SnapshotTests.lagging()
        let cluster = lagging.cluster
        // Offers come through, and nothing that is said to them.
        cluster.network.drops = { SnapshotTests.isOf($0, .snapshotRequest) }
        try cluster.start(lagging.lagging)
        cluster.pass(milliseconds: 1500)
        let leader = try SnapshotTests.peer(cluster, lagging.leader)
        let peer = try SnapshotTests.peer(cluster, lagging.lagging).peer
        #expect(leader.raft.progress(of: peer)?.state == .snapshot)
        // As if it had taken one of before, from behind which this log has gone on.
        let lane = try SnapshotTests.lane(cluster, lagging.leader)
        lane.snapshots.outgoing[0].floor = .zero
        cluster.pass(milliseconds: 100)
        #expect(leader.raft.progress(of: peer)?.state != .snapshot || !lane.snapshots.isIdle)
        cluster.network.drops = { _ in false }
        cluster.pass(milliseconds: 12_000)
        try SnapshotTests.expectCaughtUp(lagging)
    }
}
