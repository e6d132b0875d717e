// What a node tells of the snapshots that it sends and gets.

import Testing
import UkehiBase
import UkehiRaft
import UkehiState

@testable import UkehiNode

@Suite("Snapshot transfers, told")
struct SnapshotTransferTests {
    private func transfers(
        _ cluster: TestCluster, _ number: Int
    ) throws -> [SnapshotTransferInfo] {
        let tag = cluster.submit(number, .transfers, key: "")
        cluster.settle()
        guard case .transfers(let told)? = cluster.sink.replies[tag] else {
            throw SnapshotTests.Unexpected(what: "\(String(describing: cluster.sink.replies[tag]))")
        }
        return told
    }

    @Test("both sides tell of it, from the offer to the end")
    func told() throws {
        let worker = HeldWorker()
        let lagging = try SnapshotTests.lagging(chunkBytes: 64, worker: worker)
        let cluster = lagging.cluster
        #expect(try transfers(cluster, lagging.leader).isEmpty)

        // No request: it stays an offer.
        cluster.network.drops = { SnapshotTests.isOf($0, .snapshotRequest) }
        try cluster.start(lagging.lagging)
        cluster.pass(milliseconds: 1000)
        let offered = try #require(try transfers(cluster, lagging.leader).first)
        let peer = try SnapshotTests.peer(cluster, lagging.lagging)
        #expect(offered.stage == .offered && offered.direction == .sends)
        #expect(offered.peer == peer.peer && offered.node == cluster.members[1].core?.nodeID)
        #expect(offered.region == SnapshotTests.region)
        #expect(offered.doneBytes == 0 && offered.totalBytes == 0 && offered.bytesPerSecond == 0)
        #expect(offered.milliseconds > 0)

        // Three chunks, and no more.
        var chunks = 0
        cluster.network.drops = { packet in
            guard SnapshotTests.isOf(packet, .snapshotChunk) else { return false }
            chunks += 1
            return chunks > 3
        }
        cluster.pass(milliseconds: 2000)
        let sends = try #require(try transfers(cluster, lagging.leader).first)
        let gets = try #require(try transfers(cluster, lagging.lagging).first)
        #expect(sends.stage == .moving && gets.stage == .moving)
        let leader = try SnapshotTests.peer(cluster, lagging.leader)
        #expect(gets.direction == .gets && gets.peer == leader.peer)
        #expect(gets.doneBytes == 3 * 64 && sends.doneBytes == gets.doneBytes)
        #expect(sends.totalBytes > sends.doneBytes && gets.totalBytes == sends.totalBytes)
        #expect(sends.bytesPerSecond > 0 && gets.bytesPerSecond > 0)
        #expect(try transfers(cluster, lagging.third).isEmpty)

        // All of it came; nothing is done with it.
        worker.isHolding = true
        cluster.network.drops = { _ in false }
        cluster.pass(milliseconds: 300)
        var stages: Set<SnapshotTransferInfo.Stage> = []
        for _ in 0..<60 {
            for told in try transfers(cluster, lagging.lagging) { stages.insert(told.stage) }
            worker.releaseOne()
            cluster.pass(milliseconds: 50)
        }
        #expect(stages.contains(.checking) && stages.contains(.installing), "\(stages)")
        worker.release()
        worker.isHolding = false
        cluster.pass(milliseconds: 4000)
        for number in 0..<3 { #expect(try transfers(cluster, number).isEmpty) }
        try SnapshotTests.expectCaughtUp(lagging)
    }

    @Test("a rate is of the time since the first byte")
    func pace() {
        var pace = TransferPace(begunAt: 10)
        #expect(pace.bytesPerSecond(at: 50, 10) == 0)
        pace.reached(0, at: 100)
        #expect(pace.bytesPerSecond(at: 150, 10) == 0)
        pace.reached(1000, at: 150)
        #expect(pace.bytesPerSecond(at: 200, 10) == 1000)
        #expect(pace.milliseconds(at: 200, 10) == 1900)
        // In the tick of its first byte no time has passed.
        var quick = TransferPace(begunAt: 0)
        quick.reached(50, at: 7)
        #expect(quick.bytesPerSecond(at: 7, 10) == 5000)
    }

    @Test("a node that stops answers, too")
    func stopped() throws {
        let sink = CollectingSink()
        let request = ClientRequest(operation: .transfers, key: "", sink: sink, tag: 4)
        do {
            _ = Gathering<SnapshotTransferInfo>(of: 2, request) { .transfers($0) }
        }
        guard case .failed(.rejected(.unavailable))? = sink.replies[4] else {
            throw SnapshotTests.Unexpected(what: "\(String(describing: sink.replies[4]))")
        }
    }
}
