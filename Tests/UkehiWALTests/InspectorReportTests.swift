// What stat, verify and diff say of logs whose contents are known.

import Testing
import UkehiBase
import UkehiEnvironment
import UkehiSimulation

@testable import UkehiWAL

@Suite("Inspector: reports")
struct InspectorReportTests {
    private func inspector(_ small: SmallLog) -> WALInspector { inspector(small.fileSystem) }
    private func inspector(_ fileSystem: SimulatedFileSystem) -> WALInspector {
        WALInspector(fileSystem: fileSystem, directory: "/data")
    }

    // MARK: Stat

    @Test("stat divides segments into live, dead and free, and names who holds the oldest back")
    func stat() throws {
        let small = try SmallLog()
        // Region 9 stays at its first entry; region 1 goes on and drops what it had.
        try small.append(9, from: 1, bytes: 500)
        for index in UInt64(1)...40 { try small.append(1, from: index, bytes: 2000) }
        var batch = LogBatch()
        batch.compact(region: RegionID(1), firstIndex: LogIndex(40), term: Term(1))
        _ = try small.log.submit(&batch, lane: 0)
        small.pump()
        let report = inspector(small).stat()
        #expect(report.problem == nil)
        #expect(report.segments.map(\.segment) == Array(1...UInt64(small.segmentNames.count)))
        #expect(report.segments.count > 2)
        for segment in report.segments {
            #expect(
                segment.deadBytes + segment.liveBytes + segment.freeBytes == segment.fileBytes)
        }
        // An entry of 500 bytes with its record header and item, and the region's hard state.
        #expect(report.segments[0].liveBytes == 516 + 80 + 80)
        #expect(report.segments[1].liveBytes == 0)
        #expect(report.pinning.map(\.region) == [RegionID(9)])
        #expect(report.pinning[0].pinningBytes == 516 + 80)
        #expect(report.regions.map(\.region) == [RegionID(1), RegionID(9)])
        #expect(report.regions[0].entries == 1)
        #expect(report.regions[0].firstIndex == LogIndex(40))
        #expect(report.frames == 42)
        #expect(report.batches == 42)
        #expect(report.entries == 41)
        #expect(report.batchEntries.counts[0] == 41)
        #expect(report.batchBytes.counts[10] == 40)
        #expect(report.frameFill.reduce(0, +) == 42)
        #expect(report.frameFill[5] == 40)
        #expect(report.frameBytes == 42 * 4096)
        #expect(report.paddingBytes == 42 * 4096 - 42 * 160 - 40 * 2016 - 516)
        #expect(report.compressedBatches == 0)
        #expect(report.bodyBytes == report.rawBytes)
        #expect(report.preparedBytes == 32 << 10)
        #expect(inspector(SimulatedFileSystem()).stat().problem?.code == .unavailable)
    }

    // MARK: Verify

    @Test("verify says what would be lost: the damaged entries, and what stands behind them")
    func loss() throws {
        let small = try SmallLog()
        var batch = LogBatch()
        for region in UInt64(1)...2 {
            batch.append(
                region: RegionID(region), hardState: nil,
                entries: SmallLog.entries(from: 1, count: 3, bytes: 100))
        }
        _ = try small.log.submit(&batch, lane: 0)
        small.pump()
        for index in UInt64(4)...30 { try small.append(2, from: index, bytes: 2000) }
        small.claim()
        let damaged = small.fileSystem.copy()
        let path = SmallLog.path(small.segmentNames[0])
        var bytes = damaged.contents(path) ?? []
        // The first body of the first frame: region 1's.
        bytes[8192 + 80 + 160 + 20] ^= 1
        damaged.replace(path, with: bytes)
        let report = inspector(damaged).verify()
        #expect(report.problem?.position == LogPosition(segment: 1, offset: 8192))
        #expect(
            report.loss.entries == [
                LogLoss.Entries(
                    region: RegionID(1), first: LogIndex(1), last: LogIndex(3), isDamaged: true),
                LogLoss.Entries(
                    region: RegionID(2), first: LogIndex(1), last: LogIndex(30), isDamaged: false),
            ])
        #expect(report.loss.framesBehind == 28)
        #expect(!report.loss.isUnknown)

        // The directory, which is short and so there once only: nobody can tell what it held.
        bytes[8192 + 90] ^= 1
        damaged.replace(path, with: bytes)
        #expect(inspector(damaged).verify().loss.isUnknown)
        #expect(inspector(small).verify().loss == LogLoss())
    }

    // MARK: Diff

    private func log(
        seed: UInt64, _ entries: [(region: UInt64, index: UInt64, term: UInt64, bytes: Int)],
        commits: [UInt64: UInt64] = [:]
    ) throws -> SmallLog {
        let small = try SmallLog(seed: seed)
        for entry in entries {
            var batch = LogBatch()
            batch.append(
                region: RegionID(entry.region), hardState: nil,
                entries: SmallLog.entries(
                    from: entry.index, count: 1, term: entry.term, bytes: entry.bytes))
            _ = try small.log.submit(&batch, lane: 0)
            small.pump()
        }
        for (region, commit) in commits.sorted(by: { $0.key < $1.key }) {
            var batch = LogBatch()
            batch.append(
                region: RegionID(region),
                hardState: HardState(term: Term(9), vote: .none, commit: LogIndex(commit)),
                entries: [])
            _ = try small.log.submit(&batch, lane: 0)
            small.pump()
        }
        return small
    }

    @Test("equal logs are equal, however they were written, cut and compacted")
    func equal() throws {
        let entries = (UInt64(1)...20).map { (UInt64(1), $0, UInt64(1), 900) }
        let a = try log(seed: 1, entries)
        let b = try log(seed: 2, [(1, 1, 1, 7), (1, 2, 1, 7)] + entries.dropLast(3))
        var batch = LogBatch()
        batch.compact(region: RegionID(1), firstIndex: LogIndex(8), term: Term(1))
        _ = try b.log.submit(&batch, lane: 0)
        b.pump()
        let report = inspector(a).diff(with: inspector(b))
        #expect(report.problem == nil)
        #expect(report.regions.map(\.verdict) == [.equal])
        #expect(report.regions[0].overlap == 8..<18)
        #expect(report.comparedEntries == 10)
    }

    @Test("the first difference is found; only one that may not be makes the logs broken")
    func different() throws {
        // Region 1: an old leader's tail. Region 2: committed on both. Region 3: one term, two entries.
        // Region 4 and 5: on one side only.
        let a = try log(
            seed: 1,
            [
                (1, 1, 1, 50), (1, 2, 2, 50), (2, 1, 1, 50), (2, 2, 1, 50), (3, 1, 1, 50),
                (4, 1, 1, 50),
            ], commits: [1: 1, 2: 2])
        let b = try log(
            seed: 2,
            [
                (1, 1, 1, 50), (1, 2, 3, 50), (2, 1, 1, 50), (2, 2, 2, 50), (3, 1, 1, 60),
                (5, 1, 1, 50),
            ], commits: [1: 2, 2: 2])
        let report = inspector(a).diff(with: inspector(b))
        #expect(report.regions.map(\.verdict) == [.uncommitted, .committed, .committed])
        #expect(report.regions.map(\.index?.rawValue) == [2, 2, 1])
        #expect(report.regions[0].first?.term == Term(2))
        #expect(report.regions[0].second?.term == Term(3))
        #expect(report.onlyInFirst == [RegionID(4)])
        #expect(report.onlyInSecond == [RegionID(5)])
        #expect(report.isBroken)
    }

    @Test("a log that cannot be read is named")
    func unreadable() throws {
        let a = try log(seed: 1, [(1, 1, 1, 50)])
        let report = inspector(a).diff(with: inspector(SimulatedFileSystem()))
        #expect(report.problem?.code == .unavailable)
        #expect(report.problem?.message.hasPrefix("In /data: ") == true)
    }
}
