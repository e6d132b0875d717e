// What bounds snapshots on their way: bytes a second, how many at once, how much of one in memory.

import Testing
import UkehiBase
import UkehiEnvironment
import UkehiRaft
import UkehiSimulation
import UkehiState

@testable import UkehiNode

@Suite("Bounds of snapshots")
struct SnapshotBoundTests {
    private static let chunkBytes = 256

    /// Writes what no compression makes smaller, so that the snapshot has many parts. With what is to
    /// be read in the end.
    private func filled(_ lagging: SnapshotTests.Lagging) throws -> SnapshotTests.Lagging {
        var filled = lagging
        let random = NodeRandom(seed: 9)
        for number in 0..<40 {
            let key = Bytes("1/\(number)")
            let value = Bytes((0..<200).map { _ in UInt8(truncatingIfNeeded: random.next()) })
            let put = Command.put(key: key, value: value)
            guard case .command(.applied)? = try lagging.cluster.write(put) else {
                throw SnapshotTests.Unexpected(what: lagging.cluster.dump())
            }
            filled.expected[key] = value
        }
        return filled
    }

    // MARK: Bytes a second

    @Test("no more bytes go out than the rate allows, in any span of ticks, and not much less")
    func rate() throws {
        // A tick's share is less than a chunk: each is paid for by the ticks behind it.
        let perTick = 100
        let lagging = try filled(
            SnapshotTests.lagging(chunkBytes: Self.chunkBytes) {
                $0.snapshotBytesPerSecond = perTick * 1000 / $0.tickMilliseconds
            })
        let cluster = lagging.cluster
        var sent = [Int](repeating: 0, count: 400)
        var tick = 0
        cluster.network.drops = { packet in
            for item in packet.messages where item.message.kind == .snapshotChunk {
                if let chunk = SnapshotChunk(item.message.context) {
                    sent[tick] += chunk.bytes.count
                }
            }
            return false
        }
        try cluster.start(lagging.lagging)
        for number in sent.indices {
            tick = number
            cluster.pass(milliseconds: 50)
        }
        cluster.network.drops = { _ in false }
        try SnapshotTests.expectCaughtUp(lagging)

        var sums = [0]
        for bytes in sent { sums.append((sums.last ?? 0) + bytes) }
        let total = try #require(sums.last)
        #expect(total > 40 * 200, "a snapshot of so few bytes proves nothing")
        // One tick's share may have been left from before, and the last chunk may be overdrawn.
        var excess = Int.min
        for first in sent.indices {
            for end in first + 1...sent.count {
                let allowed = (end - first + 1) * perTick + Self.chunkBytes
                excess = max(excess, sums[end] - sums[first] - allowed)
            }
        }
        #expect(excess <= 0, "\(sent)")
        let first = try #require(sent.firstIndex { $0 > 0 })
        let last = try #require(sent.lastIndex { $0 > 0 })
        #expect((last - first) * perTick <= 2 * total, "\(sent)")
    }

    // MARK: How many at once

    /// Five nodes with four regions, which the first node leads; the last two have missed so much of
    /// each that the others' logs do not have it any more.
    private func twoLagging() throws -> (cluster: TestCluster, regions: [RegionID]) {
        let cluster = TestCluster(nodes: 5, regions: 4, storeSeed: 5, flushesUnasked: false) {
            $0.compactionInterval = 4
            $0.maxLogEntries = 4
            $0.maxUnflushedLogBytes = 1
            $0.snapshotChunkBytes = 64
            // A chunk a tick: what is begun at the same time is under way at the same time.
            $0.snapshotBytesPerSecond = 64 * 1000 / $0.tickMilliseconds
        }
        try cluster.startAll()
        cluster.pass(milliseconds: 3000)
        let core = try #require(cluster.members[0].core)
        let infos = try #require(core.topology).regions
        #expect(infos.count == 4)
        for info in infos { try cluster.transfer(to: 0, info.region) }
        cluster.crash(3, seed: 1)
        cluster.crash(4, seed: 2)
        for number in 0..<40 {
            for info in infos {
                let key = Bytes(info.range.lower.array + Array("/\(number % 20)".utf8))
                let put = Command.put(key: key, value: Bytes("after \(number)"))
                guard case .command(.applied)? = try cluster.write(put) else {
                    throw SnapshotTests.Unexpected(what: "write \(number)\n\(cluster.dump())")
                }
            }
        }
        for _ in 0..<4 {
            cluster.pass(milliseconds: 1500)
            SnapshotTests.flush(cluster)
        }
        for info in infos {
            #expect(cluster.leads(info.region) == 0)
            let region = try #require(cluster.region(0, info.region))
            #expect(region.log.firstIndex > LogIndex(20), "\(cluster.dump())")
        }
        return (cluster, infos.map(\.region))
    }

    /// Whether all members have applied the same of a region.
    private func isEven(_ region: RegionID, _ cluster: TestCluster) -> Bool {
        let applied = cluster.members.indices.map { cluster.region($0, region)?.applied }
        return Set(applied).count == 1 && applied[0] != nil
    }

    @Test("a node gives two at once and takes two at once, however many regions lag")
    func atOnce() throws {
        let (cluster, regions) = try twoLagging()
        var given = 0
        var taken = 0
        var wanted = 0
        var waiting = 0
        cluster.network.drops = { [unowned cluster] packet in
            guard
                SnapshotTests.isOf(packet, .snapshotChunk)
                    || SnapshotTests.isOf(packet, .snapshotRequest)
            else { return false }
            for member in cluster.members {
                guard let traffic = member.core?.lanes[0].snapshots else { continue }
                let gives = traffic.outgoing.filter { $0.holdsSlot }.count
                given = max(given, gives)
                taken = max(taken, traffic.incoming.count)
                // What could be given beside what is given.
                if gives == Limits.maxSnapshotsAtOnce {
                    let offered = traffic.outgoing.filter {
                        if case .offered = $0.stage { true } else { false }
                    }
                    wanted = max(wanted, offered.count)
                }
                waiting = max(waiting, traffic.waiting.count)
            }
            return false
        }
        for number in [3, 4] { try cluster.start(number) }
        for _ in 0..<1600 {
            cluster.pass(milliseconds: 50)
            if regions.allSatisfy({ isEven($0, cluster) }) { break }
        }
        cluster.pass(milliseconds: 4000)
        #expect(given == Limits.maxSnapshotsAtOnce)
        #expect(taken == Limits.maxSnapshotsAtOnce)
        #expect(wanted > 0 && waiting > 0, "\(wanted) wanted, \(waiting) waiting")

        cluster.network.drops = { _ in false }
        for region in regions {
            #expect(isEven(region, cluster), "\(cluster.dump())")
            let digests = try cluster.members.map { member in
                try member.core?.applier.digest(region: region)
            }
            #expect(Set(digests).count == 1)
        }
        for number in cluster.members.indices {
            #expect(try SnapshotTests.lane(cluster, number).snapshots.isIdle)
            #expect(try SnapshotTests.files(cluster, number) == [])
        }
        #expect(cluster.failures.isEmpty)
    }

    // MARK: How much in memory

    /// Whether the lagging peer still waits for parts.
    private func isReceiving(_ lagging: SnapshotTests.Lagging) throws -> Bool {
        let lane = try SnapshotTests.lane(lagging.cluster, lagging.lagging)
        let incoming = lane.snapshots.incoming.first { $0.region == SnapshotTests.region }
        guard case .receiving? = incoming?.stage else { return false }
        return true
    }

    @Test("no more is asked for ahead of what is written than four parts, however slow the disk")
    func unwritten() throws {
        let worker = HeldWorker()
        let lagging = try filled(
            SnapshotTests.lagging(chunkBytes: Self.chunkBytes, worker: worker))
        let cluster = lagging.cluster
        let chunkBytes = UInt64(Self.chunkBytes)
        let bound = UInt64(Limits.maxUnwrittenChunks)
        var furthest: UInt64 = 0
        var ids: Set<UInt64> = []
        cluster.network.drops = { packet in
            for item in packet.messages where item.message.kind == .snapshotRequest {
                // Without room it says only that it is there.
                guard let request = SnapshotRequest(item.message.context), request.snapshot != 0,
                    request.verdict == .goesOn, request.room > 0
                else { continue }
                ids.insert(request.snapshot)
                furthest = max(furthest, request.offset)
            }
            return false
        }
        worker.isHolding = true
        try cluster.start(lagging.lagging)
        cluster.pass(milliseconds: 3000)
        #expect(worker.held.count == Limits.maxUnwrittenChunks)
        #expect(furthest == (bound - 1) * chunkBytes)
        // Longer than anybody is waited for in silence.
        cluster.pass(milliseconds: 8000)
        #expect(worker.held.count == Limits.maxUnwrittenChunks)
        #expect(furthest == (bound - 1) * chunkBytes)

        // Each part that is written makes room for one more.
        var written: UInt64 = 0
        while written < 1000, try isReceiving(lagging) {
            worker.releaseOne()
            written += 1
            cluster.pass(milliseconds: 50)
            #expect(furthest < (written + bound) * chunkBytes)
            if try isReceiving(lagging) {
                #expect(worker.held.count == Limits.maxUnwrittenChunks)
            }
        }
        #expect(written > 3 * bound, "a snapshot of so few parts proves nothing")
        #expect(ids.count == 1)
        worker.release()
        worker.isHolding = false
        cluster.network.drops = { _ in false }
        cluster.pass(milliseconds: 4000)
        try SnapshotTests.expectCaughtUp(lagging)
    }
}
