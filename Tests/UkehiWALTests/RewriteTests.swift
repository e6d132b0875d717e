// Entries that are written again at the log's end, in pieces, beside whatever else is done to their
// region: each state of such a log against the naive twin; and how much space it takes.

import Testing
import UkehiBase
import UkehiEnvironment
import UkehiSimulation

@testable import UkehiWAL

@Suite("Rewriting")
struct RewriteTests {
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

    /// Bytes of the files of segments in use, idle ones and the one being prepared aside; and bytes of
    /// entries that are needed, with their directory items.
    private func space(_ small: SmallLog) -> (used: Int, live: Int) {
        let used = small.log.segments.reduce(0) { sum, segment in
            let path = SmallLog.path(LogNames.segment(segment.header.segment))
            return sum + (small.fileSystem.contents(path)?.count ?? 0)
        }
        let regions = small.log.scheduler.regions
        let live = (0..<regions.count).reduce(0) { sum, slot in
            regions[slot].index.live.reduce(sum) {
                $0 + Int($1.bodyBytes) + FrameFormat.itemBytes
            }
        }
        return (used, live)
    }

    /// What is counted as records become durable is what a walk over everything finds.
    private func expectCountsToBeRight(_ small: SmallLog) {
        let log = small.log
        let counted = SegmentUse(
            log.scheduler.regions, oldest: log.segments[0].header.segment,
            newest: log.segments[log.segments.count - 1].header.segment)
        #expect(counted.oldest == log.scheduler.use.oldest)
        #expect(counted.counts == log.scheduler.use.counts)
    }

    // MARK: Space

    /// The lagging region's entries are so many in a round, of which it lets go of none.
    @Test(
        "sealed segments take at most twice what is needed, or are fewer than two, while one region of many lets go of nothing",
        arguments: [(every: UInt64(1), isBusy: false), (7, false), (40, false), (2, true)])
    func amplification(every: UInt64, isBusy: Bool) throws {
        let segmentBytes = 256 << 10
        let small = try SmallLog(options: Self.options(segmentBytes: segmentBytes))
        let (others, kept, rounds) = (UInt64(12), UInt64(40), UInt64(3000))
        var lagging: UInt64 = 0
        var (worst, counted) = (0.0, 0)
        for round in 1...rounds {
            for region in 1...others { try small.submit(region, from: round, bytes: 900) }
            if round % every == 0 {
                lagging += 1
                try small.submit(100, from: lagging, bytes: 900)
            }
            if round % 4 == 0 { small.pump() }
            guard round % 20 == 0 else { continue }
            small.pump()
            if round > kept {
                for region in 1...others { try compact(small, region, to: round - kept + 1) }
            }
            if isBusy {
                // Its records are always under way while it is purged.
                lagging += 1
                try small.submit(100, from: lagging, bytes: 900)
                let work = small.log.takeWork()
                lagging += 1
                try small.submit(100, from: lagging, bytes: 900)
                for _ in 0..<8 { _ = try small.log.purgeStep() }
                if let work { small.log.perform(work) }
                small.pump()
                if round % 100 != 0 { continue }
            }
            try purge(small)
            let (used, live) = space(small)
            let sealed = used - (small.log.segments.last?.fileBytes ?? 0)
            if small.log.segments.count - 1 >= WALLimits.leastFreedByRewriting {
                worst = max(worst, Double(sealed) / Double(live))
                counted += 1
            }
        }
        #expect(worst <= 2, "\(worst) bytes of segments for each that is needed")
        #expect(counted > 10)
        let (used, live) = space(small)
        // The lagging region is most of what is needed at last, and far more than one rewrite.
        let entries = Int(lagging) * 900
        #expect(live > entries && used <= 2 * live + segmentBytes)
        let statistics = small.log.statistics
        #expect(statistics.segmentsRemoved > 60 && statistics.rewrittenBytes > 0)
        // About as much is written again as was appended, at most.
        let again = statistics.rewrittenBytes + statistics.carriedBytes
        #expect(2 * again <= statistics.bytesWritten)
        expectCountsToBeRight(small)

        let reopened = try SmallLog.reopened(small.fileSystem)
        let found = try ModelLog.of(reopened.log, reopened.recovered)
        let region = try #require(found.regions[RegionID(100)])
        #expect(region.first == 1 && region.last == lagging)
        for index in 1...lagging {
            let expected = SmallLog.entries(from: index, count: 1, bytes: 900)[0]
            #expect(region.entries[index]?.data == expected.data.array)
        }
        #expect(WALInspector(fileSystem: small.fileSystem, directory: "/data").audit().isSound)
        expectCountsToBeRight(reopened)
    }

    @Test("a log whose one region is nearly all that is needed is left alone")
    func mostlyLive() throws {
        let small = try SmallLog(options: Self.options(segmentBytes: 64 << 10))
        for index in UInt64(1)...400 { try small.append(1, from: index, bytes: 3900) }
        for _ in 0..<5 {
            #expect(try small.log.purgeStep() == .pinned([RegionID(1)]))
            small.pump()
        }
        #expect(small.log.statistics.rewrittenBytes == 0)
    }

    @Test("states that fill the log are not moved round and round")
    func mostlyStates() throws {
        let small = try SmallLog(options: Self.options(segmentBytes: 64 << 10))
        for first in stride(from: UInt64(1), to: 4000, by: 100) {
            var batch = LogBatch()
            for region in first..<first + 100 {
                batch.append(
                    region: RegionID(region),
                    hardState: HardState(term: Term(1), vote: PeerID(2), commit: .zero), entries: []
                )
            }
            _ = try small.log.submit(&batch, lane: 0)
            small.pump()
        }
        var steps = 0
        while steps < 1000, try small.log.purgeStep() != .done {
            small.pump()
            steps += 1
        }
        #expect(steps < 100)
        #expect(try SmallLog.reopened(small.fileSystem).recovered.count == 4000)
    }

    // MARK: Formats

    @Test("only a log in which entries were written again is one that older versions refuse")
    func flag() throws {
        let small = try SmallLog(options: Self.options(segmentBytes: 64 << 10))
        try small.append(100, from: 1, count: 3)
        for index in UInt64(1)...80 {
            try small.append(1, from: index, bytes: 3000)
            try compact(small, 1, to: index)
        }
        #expect(small.log.segments.allSatisfy { !$0.header.mayHoldRewrites })
        let active = small.log.segments.count
        try purge(small)
        #expect(try small.log.purgeStep() != .pinned([RegionID(100)]))
        small.pump()
        try purge(small)
        #expect(small.log.statistics.regionsRewritten == 1)
        #expect(small.log.segments.count <= active)
        let newest = try #require(small.log.segments.last)
        #expect(newest.header.mayHoldRewrites)
        // The flag as a version without it sees it.
        let path = SmallLog.path(LogNames.segment(newest.header.segment))
        #expect(small.fileSystem.contents(path)?[56] == 9)

        // Without the flag such a record is none.
        let damaged = small.fileSystem.copy()
        var bytes = damaged.contents(path) ?? []
        for copy in [0, 4096] {
            bytes[copy + 56] = 1
            let checksum = bytes[(copy + 12)..<(copy + 88)].withUnsafeBytes {
                CRC32C.checksum($0)
            }
            for byte in 0..<4 {
                bytes[copy + 8 + byte] = UInt8(truncatingIfNeeded: checksum >> UInt32(8 * byte))
            }
        }
        damaged.replace(path, with: bytes)
        small.claim()
        #expect(openingError(small.fileSystem) == nil)
        let report = WALInspector(fileSystem: damaged, directory: "/data").verify()
        #expect(report.entries < 3 || report.problem != nil)
    }

    // MARK: Beside others

    @Test("records under way take what they take, wherever an entry was meanwhile written")
    func underWay() throws {
        for kind in 0..<5 {
            let small = try SmallLog(options: Self.options(segmentBytes: 64 << 10))
            try small.append(100, from: 1, count: 9)
            for index in UInt64(1)...80 {
                try small.append(1, from: index, bytes: 3000)
                try compact(small, 1, to: index)
            }
            var batch = LogBatch()
            switch kind {
            case 0:
                batch.append(
                    region: RegionID(100), hardState: nil,
                    entries: SmallLog.entries(from: 4, count: 1, term: 2))
            case 1:
                batch.compact(region: RegionID(100), firstIndex: LogIndex(6), term: Term(1))
            case 2: batch.reset(region: RegionID(100), index: LogIndex(20), term: Term(2))
            case 3: batch.tombstone(region: RegionID(100), payload: "gone")
            default:
                batch.append(
                    region: RegionID(100),
                    hardState: HardState(term: Term(7), vote: PeerID(3), commit: LogIndex(8)),
                    entries: [])
            }
            _ = try small.log.submit(&batch, lane: 0)
            // Compactions and votes do not hinder it; the others are waited for.
            let step = try small.log.purgeStep()
            if kind == 1 || kind == 4 {
                guard case .carried(regions: 1, _) = step else {
                    Issue.record("\(kind): \(step)")
                    continue
                }
                guard case .carried(regions: 0, _) = try small.log.purgeStep() else {
                    Issue.record("it is written twice")
                    continue
                }
            } else {
                #expect(step == .pinned([RegionID(100)]))
            }
            let before = try SmallLog.reopened(small.fileSystem).recovered
            #expect(before.contains { $0.region == RegionID(100) && $0.lastIndex == LogIndex(9) })
            small.pump()
            let after = try SmallLog.reopened(small.fileSystem).recovered
            try purge(small)
            #expect(try SmallLog.reopened(small.fileSystem).recovered == after)
            expectCountsToBeRight(small)
            let found = try #require(after.first { $0.region == RegionID(100) })
            switch kind {
            case 0: #expect(found.lastIndex == LogIndex(4) && found.terms.last?.term == Term(2))
            case 1: #expect(found.firstIndex == LogIndex(6) && found.lastIndex == LogIndex(9))
            case 2: #expect(found.firstIndex == LogIndex(21) && found.lastIndex == LogIndex(20))
            case 3: #expect(found.tombstone != nil && found.lastIndex == .zero)
            default: #expect(found.hardState.vote == PeerID(3) && found.lastIndex == LogIndex(9))
            }
        }
    }

    @Test("a batch of which compaction and a conflict left nothing holds no segment back")
    func nothingLeft() throws {
        let small = try SmallLog(options: Self.options(segmentBytes: 64 << 10))
        try small.append(100, from: 1, count: 9)
        try compact(small, 100, to: 5)
        try small.append(100, from: 5, count: 2, term: 2)
        let blocks = small.log.scheduler.regions[0].index.live
        #expect(blocks.map(\.first) == [5] && blocks.map(\.count) == [2])
        expectCountsToBeRight(small)
        let again = try SmallLog.reopened(small.fileSystem)
        #expect(again.log.scheduler.regions[0].index.live == blocks)
    }

    /// The replay model: rewrites between conflicting appends, votes, births, compactions, snapshots
    /// and tombstones, at every state of the log, segments gone or not.
    @Test("a log with rewrites is the twin's", arguments: UInt64(1)...24)
    func twin(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        var options = Self.options(segmentBytes: 4096 * Int.random(in: 8...20, using: &random))
        options.rarePaths = RarePaths(
            random: SeededRandomSource(seed: seed),
            only: [.carriedEarly, .segmentLeftEarly, .readOneBlock], chance: 1 << 14)
        options.compressionThresholdBytes = random.oneIn(2) ? 200 : nil
        options.writesFooters = !random.oneIn(3)
        let small = try SmallLog(options: options, seed: seed)
        var model = ModelLog()
        var batch = small.log.newBatch()
        for step in 1...1500 {
            if random.oneIn(4) {
                _ = try small.log.purgeStep()
            } else {
                for _ in 0..<Int.random(in: 1...3, using: &random) {
                    model.change(&random, &batch, regionCount: 5, maxData: 500)
                }
                if !batch.isEmpty { _ = try small.log.submit(&batch, lane: 0) }
            }
            // Some are under way at any time.
            if random.oneIn(3) {
                small.pump()
            } else if let work = small.log.takeWork() {
                small.log.perform(work)
            }
            guard step % 50 == 0 else { continue }
            small.pump()
            expectCountsToBeRight(small)
            for readsFooters in [true, false] {
                var reading = options
                reading.readsFooters = readsFooters
                reading.rarePaths = .off
                let reopened = try SmallLog(small.fileSystem.copy(), options: reading, seed: 5)
                let found = try ModelLog.of(reopened.log, reopened.recovered)
                try #require(
                    found.isSame(as: model), "step \(step): \(model.difference(from: found))")
            }
            let audit = WALInspector(fileSystem: small.fileSystem, directory: "/data").audit()
            try #require(audit.isSound, "step \(step): \(audit)")
        }
        let statistics = small.log.statistics
        #expect(statistics.regionsRewritten > 10 && statistics.segmentsRemoved > 10)
    }
}
