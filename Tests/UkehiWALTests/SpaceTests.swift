// How much space a log takes beside what its regions need: under a steady load with one region that
// lags, and with very many regions that do nothing.

import Testing
import UkehiBase
import UkehiEnvironment
import UkehiSimulation

@testable import UkehiWAL

@Suite("Space")
struct SpaceTests {
    private static func options(segmentBytes: Int) -> WALOptions {
        var options = SmallLog.options
        options.segmentBytes = segmentBytes
        options.maxGroupBytes = segmentBytes / 4
        return options
    }

    private func compact(_ small: SmallLog, _ region: UInt64, to first: UInt64) throws {
        var batch = LogBatch()
        batch.compact(region: RegionID(region), firstIndex: LogIndex(first), term: Term(1))
        _ = try small.log.submit(&batch, lane: 0)
        small.pump()
    }

    /// Purges as an owner does that cannot let go of anything.
    private func purge(_ small: SmallLog) throws {
        while true {
            switch try small.log.purgeStep() {
            case .removed: continue
            case .carried: small.pump()
            case .pinned, .done: return
            }
        }
    }

    /// Bytes of segments that are in use, and of the entries that regions need.
    private func space(_ small: SmallLog) -> (used: Int, live: Int) {
        let log = small.log
        let used = log.segments.reduce(0) { $0 + Int($1.end ?? $1.header.capacity) }
        let live = (0..<log.scheduler.regions.count).reduce(0) { sum, slot in
            log.scheduler.regions[slot].index.live.reduce(sum) { $0 + Int($1.bodyBytes) }
        }
        return (used, live)
    }

    @Test(
        "one region that lags within its bound does not keep what others wrote: space is at most twice what is live",
        arguments: [3, 10, 100])
    func lagging(writesInSoMany: UInt64) throws {
        let segmentBytes = 1 << 20
        let small = try SmallLog(options: SpaceTests.options(segmentBytes: segmentBytes))
        // Eight regions keep their last 800 entries, the lagging one its last 300, of any age.
        let (busy, kept, bound) = (UInt64(8), UInt64(800), UInt64(300))
        var lagging: UInt64 = 0
        var worst = 0.0
        for round in UInt64(1)...5000 {
            for region in 1...busy {
                try small.submit(region, from: round, bytes: 1000)
            }
            if round % writesInSoMany == 0 {
                lagging += 1
                try small.submit(100, from: lagging, bytes: 1000)
            }
            guard round % 10 == 0 else { continue }
            small.pump()
            guard round % 50 == 0 else { continue }
            if round > kept {
                for region in 1...busy { try compact(small, region, to: round - kept + 1) }
            }
            if lagging > bound { try compact(small, 100, to: lagging - bound + 1) }
            try purge(small)
            guard round >= 2000 else { continue }
            let (used, live) = space(small)
            // The active segment is counted whole, and may be empty.
            worst = max(worst, Double(used - segmentBytes) / Double(live))
        }
        #expect(worst > 0.9 && worst <= 2, "\(worst) bytes of segments for each live byte")
        let statistics = small.log.statistics
        #expect(statistics.segmentsRemoved > 20)
        #expect(2 * statistics.rewrittenBytes <= statistics.bytesWritten)
        let again = try SmallLog.reopened(small.fileSystem)
        let region = try #require(again.recovered.first { $0.region == RegionID(100) })
        #expect(region.lastIndex == LogIndex(lagging))
        let first = lagging > bound ? lagging - bound + 1 : 1
        #expect(region.firstIndex == LogIndex(first))
        let entries = try again.log.entries(
            region: RegionID(100), from: LogIndex(first), to: LogIndex(lagging + 1),
            maxBytes: 1 << 20)
        #expect(entries == SmallLog.entries(from: first, count: entries.count, bytes: 1000))
    }

    @Test("very many regions at rest, whose entries nobody lets go of, do not pin the log")
    func atRest() throws {
        let regions = UInt64(20_000)
        let segmentBytes = 1 << 20
        let small = try SmallLog(options: SpaceTests.options(segmentBytes: segmentBytes))
        var batch = LogBatch()
        for region in 2...regions + 1 {
            batch.append(
                region: RegionID(region),
                hardState: HardState(term: Term(1), vote: PeerID(3), commit: LogIndex(2)),
                entries: SmallLog.entries(from: 1, count: 3, bytes: 40))
            if region % 256 == 0 || region == regions + 1 {
                _ = try small.log.submit(&batch, lane: 0)
                small.pump()
            }
        }
        let resting = space(small)
        var most = 0
        for index in UInt64(1)...1600 {
            try small.append(1, from: index, bytes: 16 << 10)
            guard index % 40 == 0 else { continue }
            try compact(small, 1, to: index)
            try purge(small)
            if index > 600 { most = max(most, space(small).used) }
        }
        // All that the resting regions need, twice, and a few segments for the busy one.
        #expect(most <= 2 * resting.used + 6 * segmentBytes)
        let statistics = small.log.statistics
        #expect(statistics.segmentsRemoved > 15)
        #expect(statistics.regionsRewritten >= regions)
        #expect(2 * statistics.rewrittenBytes <= statistics.bytesWritten)
        let again = try SmallLog.reopened(small.fileSystem)
        #expect(again.recovered.count == Int(regions) + 1)
        for region in again.recovered.dropFirst() {
            #expect(region.firstIndex == LogIndex(1) && region.lastIndex == LogIndex(3))
            #expect(region.hardState.vote == PeerID(3))
        }
    }

    @Test("a region with records under way is not rewritten under them")
    func underWay() throws {
        let small = try SmallLog(options: SpaceTests.options(segmentBytes: 64 << 10))
        try small.append(100, from: 1, count: 3)
        for index in UInt64(1)...80 {
            try small.append(1, from: index, bytes: 3000)
            try compact(small, 1, to: index)
        }
        try small.submit(100, from: 3, term: 2)
        #expect(try small.log.purgeStep() == .pinned([RegionID(100)]))
        small.pump()
        try purge(small)
        #expect(small.log.statistics.regionsRewritten == 1)
        let again = try SmallLog.reopened(small.fileSystem)
        let entries = try again.log.entries(
            region: RegionID(100), from: LogIndex(1), to: LogIndex(4), maxBytes: 1 << 20)
        #expect(
            entries == SmallLog.entries(from: 1, count: 2)
                + SmallLog.entries(from: 3, count: 1, term: 2))
    }
}
