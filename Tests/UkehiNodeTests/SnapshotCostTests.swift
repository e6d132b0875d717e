// A peer that lags is brought on by the log or by a snapshot, whichever is cheaper.

import Testing
import UkehiBase
import UkehiRaft
import UkehiState

@testable import UkehiNode

@Suite("Snapshot or log")
struct SnapshotCostTests {
    @Test("a byte of a snapshot counts as two of the log, within bounds")
    func ruleOfThumb() {
        var options = NodeOptions(name: "n", address: "a", peers: [])
        options.maxLogBytes = 64 << 20
        func kept(_ bytes: UInt64?) -> Int { SnapshotCost.keptLogBytes(bytes, options) }
        #expect(kept(nil) == 64 << 20)
        #expect(kept(0) == 8 << 20)
        #expect(kept(4 << 20) == 8 << 20)
        #expect(kept(10 << 20) == 20 << 20)
        #expect(kept(32 << 20) == 64 << 20)
        #expect(kept(1 << 40) == 64 << 20)
    }

    @Test("an index so many bytes before the end is told again and again, near or far")
    func indexBefore() {
        let log = RegionLog(
            hardState: HardState(), configuration: ConfigurationState(), first: LogIndex(1),
            last: .zero, compactedTerm: .zero, runs: [])
        #expect(log.index(before: 0) == nil)
        for number in 1...40 {
            log.append([
                Entry(
                    term: Term(1), index: LogIndex(UInt64(number)),
                    data: Bytes([UInt8](repeating: 7, count: 100 << 10)))
            ])
        }
        let near = log.index(before: 1 << 20)
        let far = log.index(before: 3 << 20)
        #expect(near.map { (25...31).contains($0.rawValue) } == true, "\(String(describing: near))")
        #expect(far.map { (5...11).contains($0.rawValue) } == true, "\(String(describing: far))")
        #expect(log.index(before: 1 << 20) == near)
        #expect(log.index(before: 5 << 20) == nil)
    }

    /// Three nodes, one of which misses about 2.5 MB of log of a region with so many keys of 25 kB.
    private func lagging(
        keys: Int, _ body: (TestCluster, Region) throws -> Void
    ) throws {
        let cluster = TestCluster(nodes: 3, regions: 2, storeSeed: 5, flushesUnasked: false) {
            $0.compactionInterval = 4
            $0.maxLogBytes = 8 << 20
            $0.maxUnflushedLogBytes = 1
        }
        try cluster.startAll()
        cluster.pass(milliseconds: 3000)
        try SnapshotTests.moveLeader(of: cluster, awayFrom: 1)
        cluster.crash(1, seed: 1)
        let value = Bytes([UInt8](repeating: 7, count: 25_000))
        for number in 0..<100 {
            let put = Command.put(key: Bytes("1\(number % keys)"), value: value)
            guard case .command(.applied)? = try cluster.write(put) else {
                throw SnapshotTests.Unexpected(what: cluster.dump())
            }
        }
        for _ in 0..<4 {
            cluster.pass(milliseconds: 1500)
            SnapshotTests.flush(cluster)
        }
        let leader = try #require(cluster.leader(of: SnapshotTests.key))
        try body(cluster, try SnapshotTests.peer(cluster, leader))
        // Either way it catches up.
        var snapshots = 0
        cluster.network.drops = { packet in
            if SnapshotTests.isOf(packet, .snapshotChunk) { snapshots += 1 }
            return false
        }
        try cluster.start(1)
        cluster.pass(milliseconds: 8000)
        let peers = try (0..<3).map { try SnapshotTests.peer(cluster, $0) }
        #expect(Set(peers.map(\.applied)).count == 1, "\(cluster.dump())")
        #expect((snapshots > 0) == (keys < 50))
        #expect(cluster.failures.isEmpty)
    }

    @Test("a small region with a long log gives a snapshot, though the log is within its bounds")
    func smallRegion() throws {
        try lagging(keys: 4) { _, leader in
            #expect(leader.measuredBytes.map { (100_000...110_000).contains($0) } == true)
            #expect(leader.log.firstIndex > LogIndex(40))
            // An eighth of the bound is kept all the same.
            #expect(leader.applied.rawValue - leader.log.firstIndex.rawValue > 30)
        }
    }

    @Test("a region that is as large as the log is brought on by the log")
    func largeRegion() throws {
        try lagging(keys: 100) { _, leader in
            #expect(leader.measuredBytes.map { (2_500_000...2_600_000).contains($0) } == true)
            #expect(leader.log.firstIndex < LogIndex(10))
        }
    }

    /// A peer gets a snapshot; what is written meanwhile is more than the log is kept for, and does not get
    /// through to it for so long. How many chunks it is sent after that.
    private func chunksAfter(silence milliseconds: Int) throws -> Int {
        let worker = HeldWorker()
        var lagging = try SnapshotTests.lagging(worker: worker)
        let cluster = lagging.cluster
        worker.isHolding = true
        try cluster.start(lagging.lagging)
        cluster.pass(milliseconds: 1000)
        func write() throws {
            lagging.expected.merge(try SnapshotTests.write(cluster, "meanwhile", 20)) { $1 }
            for _ in 0..<4 {
                cluster.pass(milliseconds: milliseconds / 4)
                SnapshotTests.flush(cluster)
            }
        }
        try write()
        let leader = try SnapshotTests.peer(cluster, lagging.leader)
        let peer = try SnapshotTests.peer(cluster, lagging.lagging).peer
        // It installs it and says so, and hears of nothing else.
        var chunks = 0
        cluster.network.drops = { packet in
            if SnapshotTests.isOf(packet, .snapshotChunk) { chunks += 1 }
            return packet.messages.contains {
                $0.message.kind == .appendEntries && $0.message.to == peer
                    && !$0.message.entries.isEmpty
            }
        }
        worker.release()
        worker.isHolding = false
        cluster.pass(milliseconds: 300)
        let match = leader.raft.match(of: peer) ?? .zero
        #expect(match > .zero && match + 10 < leader.applied, "\(match), \(leader.applied)")
        chunks = 0
        try write()
        let isKept = leader.log.firstIndex <= match + 1
        #expect(isKept == (milliseconds < 4000), "\(leader.log.firstIndex), \(match)")
        cluster.network.drops = { packet in
            if SnapshotTests.isOf(packet, .snapshotChunk) { chunks += 1 }
            return false
        }
        cluster.pass(milliseconds: 8000)
        try SnapshotTests.expectCaughtUp(lagging)
        return chunks
    }

    @Test("who has just got a snapshot is brought on by the log, whatever was written meanwhile")
    func catchesUp() throws {
        #expect(try chunksAfter(silence: 2000) == 0)
    }

    @Test("but not if nothing is heard of it")
    func silent() throws {
        #expect(try chunksAfter(silence: 12_000) > 0)
    }

    @Test("and not for more than thirty-two times the bound")
    func mostLog() {
        var options = NodeOptions(name: "n", address: "a", peers: [])
        options.maxLogBytes = 8 << 20
        #expect(SnapshotCost.mostLogBytes(options) == 256 << 20)
        options.maxLogBytes = 256 << 20
        #expect(SnapshotCost.mostLogBytes(options) == 2 << 30)
        options.maxLogBytes = 4 << 30
        #expect(SnapshotCost.mostLogBytes(options) == 4 << 30)
    }

    @Test("a state is measured no further than matters")
    func measured() throws {
        let cluster = TestCluster(nodes: 1, regions: 1)
        try cluster.startAll()
        cluster.pass(milliseconds: 2000)
        for number in 0..<50 {
            let key = Bytes("k\(number / 10)\(number % 10)")
            _ = try cluster.write(.put(key: key, value: Bytes([UInt8](repeating: 1, count: 1000))))
        }
        let applier = try #require(cluster.members[0].core?.applier)
        let exact = applier.snapshotBytes(of: SnapshotTests.region, upTo: 1 << 30)
        #expect(exact == 50 * (16 + 3 + 1000))
        #expect(applier.snapshotBytes(of: SnapshotTests.region, upTo: 5000) == 5000)
        #expect(applier.snapshotBytes(of: RegionID(99), upTo: 5000) == nil)
    }
}
