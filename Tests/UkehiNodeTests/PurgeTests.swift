// The shared log gives its space back although some of its regions hardly ever write.

import Testing
import UkehiBase
import UkehiSimulation
import UkehiState

@testable import UkehiNode
@testable import UkehiWAL

@Suite("Purging the shared log")
struct PurgeTests {
    private let quiet: Bytes = "0"
    private let busy: Bytes = "z"

    @Test("quiet regions, the system region among them, do not hold the log's segments for ever")
    func quietRegions() throws {
        // Segments of 1 MiB; far fewer entries than a compaction waits for.
        let cluster = TestCluster(nodes: 3, regions: 2, storeSeed: 4, flushesUnasked: false) {
            $0.maxUnflushedLogBytes = 4 << 20
        }
        try cluster.startAll()
        cluster.pass(milliseconds: 3000)
        for number in 0..<5 {
            _ = try cluster.write(.put(key: quiet, value: Bytes("\(number)")))
        }
        // It does not compress.
        var random = SeededRandom(seed: 7)
        let value = Bytes(random.bytes(64 << 10))
        for number in 0..<480 {
            guard case .command(.applied)? = try cluster.write(.put(key: busy, value: value)) else {
                Issue.record("write \(number) failed\n\(cluster.dump())")
                return
            }
            if number % 8 == 0 { cluster.pass(milliseconds: 500) }
            if number % 32 == 0 { for member in cluster.members { member.store?.completeFlush() } }
        }
        for member in cluster.members {
            let core = try #require(member.core)
            // 30 MiB were written.
            #expect(core.log.statistics.segments < 16, "\(member.name)\n\(cluster.dump())")
            let system = try #require(core.lanes[0].regions[.system])
            #expect(system.log.firstIndex > LogIndex(1))
        }
        // And a log of its own compactions comes to rest.
        cluster.pass(milliseconds: 10_000)
        let lengths = cluster.members.map { $0.core?.lanes[0].regions[.system]?.log.lastIndex }
        cluster.pass(milliseconds: 10_000)
        #expect(
            lengths == cluster.members.map { $0.core?.lanes[0].regions[.system]?.log.lastIndex })
        // What is left is all there after a power cut.
        for number in cluster.members.indices { cluster.crash(number, seed: UInt64(number)) }
        for number in cluster.members.indices { try cluster.start(number) }
        cluster.pass(milliseconds: 3000)
        for (key, expected) in [(quiet, Bytes("4")), (busy, value)] {
            let leader = try #require(cluster.leader(of: key))
            guard case .value(let found)? = cluster.read(key, at: leader) else {
                Issue.record("no answer")
                return
            }
            #expect(found?.value == expected)
        }
        #expect(cluster.failures.isEmpty)
    }
}
