// Reading older entries takes time, in which the log goes on: what was asked for may be gone.

import Testing
import UkehiBase
import UkehiEnvironment
import UkehiRaft
import UkehiSimulation
import UkehiState

@testable import UkehiNode
@testable import UkehiWAL

@Suite("Fetches of older entries")
struct FetchTests {
    private let region = RegionID(2)

    private func peer(_ cluster: TestCluster, _ number: Int) throws -> Region {
        try #require(cluster.members[number].core?.lanes[0].regions[region])
    }

    /// Leaves a fetch with the read thread of `number`, as a core that is behind does.
    private func fetch(_ cluster: TestCluster, _ number: Int, _ range: Range<UInt64>) throws {
        let peer = try peer(cluster, number)
        #expect(throws: LogStorageError.temporarilyUnavailable) {
            _ = try peer.log.entries(
                from: LogIndex(range.lowerBound), to: LogIndex(range.upperBound), maxBytes: 1 << 20)
        }
        cluster.members[number].core?.lanes[0].takeReady(peer)
    }

    @Test("entries that are compacted away before they are read are no failure")
    func compacted() throws {
        let reader = HeldWorker()
        let cluster = TestCluster(nodes: 3, regions: 1, storeSeed: 3, flushesUnasked: false) {
            $0.compactionInterval = 8
        }
        cluster.worker = { member, name in member == 0 && name == "ukehi-read" ? reader : nil }
        try cluster.startAll()
        cluster.pass(milliseconds: 2000)
        for number in 0..<40 {
            _ = try cluster.write(.put(key: Bytes("k\(number)"), value: "v"))
        }
        try fetch(cluster, 0, 2..<5)
        #expect(reader.held.count == 1)
        cluster.pass(milliseconds: 2000)
        for member in cluster.members {
            member.store?.requestFlush()
            member.store?.completeFlush()
        }
        cluster.pass(milliseconds: 3000)
        #expect(try peer(cluster, 0).log.firstIndex > LogIndex(5))
        reader.isHolding = false
        reader.release()
        cluster.pass(milliseconds: 1000)
        #expect(cluster.failures.isEmpty)
        guard case .command(.applied)? = try cluster.write(.put(key: "k", value: "w")) else {
            Issue.record("the region does not write any more")
            return
        }
    }

    @Test("entries that another leader cuts off before they are read are no failure")
    func cutOff() throws {
        let reader = HeldWorker()
        let cluster = TestCluster(nodes: 3, regions: 1, storeSeed: 3)
        try cluster.startAll()
        cluster.pass(milliseconds: 3000)
        let old = try #require(cluster.leader(of: "k"))
        let node = try #require(cluster.members[old].core?.nodeID)
        // A tail that nobody else gets.
        cluster.network.drops = { $0.from == node || $0.to == node }
        for number in 0..<20 {
            let record = try Command.put(key: Bytes("t\(number)"), value: "v").encoded()
            cluster.submit(old, .write(record: record), key: Bytes("t\(number)"))
            cluster.settle()
        }
        let last = try peer(cluster, old).log.lastIndex
        // After a restart nothing of it is in memory.
        cluster.crash(old, seed: 1)
        cluster.worker = { member, name in member == old && name == "ukehi-read" ? reader : nil }
        try cluster.start(old)
        cluster.settle()
        #expect(try peer(cluster, old).log.lastIndex == last)
        // The system region reads what it has to apply again.
        let others = reader.held.count
        try fetch(cluster, old, last.rawValue - 10..<last.rawValue + 1)
        #expect(reader.held.count == others + 1)
        cluster.pass(milliseconds: 3000)
        cluster.network.drops = { _ in false }
        cluster.pass(milliseconds: 3000)
        #expect(try peer(cluster, old).log.lastIndex < last)
        reader.isHolding = false
        reader.release()
        cluster.pass(milliseconds: 1000)
        #expect(cluster.failures.isEmpty)
        let third = (old + 1) % 3
        #expect(try peer(cluster, old).applied == peer(cluster, third).applied)
    }
}
