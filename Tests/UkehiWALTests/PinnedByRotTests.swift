// A body that cannot be read any more cannot be written again, and so holds its segment: who is told of it,
// and what ends that.

import Synchronization
import Testing
import UkehiBase
import UkehiEnvironment
import UkehiSimulation

@testable import UkehiWAL

@Suite("Pinned by rot")
struct PinnedByRotTests {
    private static let regions: [UInt64] = [100, 101]

    /// Two regions with entries 1 to 4, of 100 in two bodies, and after them so much of another region, all
    /// of it compacted away, that both are worth writing again.
    private static func log(supersedes: Bool = false) throws -> SmallLog {
        var options = SmallLog.repairing
        options.segmentBytes = 64 << 10
        options.maxGroupBytes = 16 << 10
        let small = try SmallLog(options: options)
        for first in [UInt64(1), 3] {
            for region in regions { try small.append(region, from: first, count: 2) }
        }
        if supersedes { try small.append(100, from: 4, count: 1, term: 2) }
        for index in UInt64(1)...120 {
            try small.append(1, from: index, bytes: 3000)
            try compact(small, 1, to: index)
        }
        return small
    }

    private static func compact(_ small: SmallLog, _ region: UInt64, to first: UInt64) throws {
        var batch = LogBatch()
        batch.compact(region: RegionID(region), firstIndex: LogIndex(first), term: Term(1))
        _ = try small.log.submit(&batch, lane: 0)
        small.pump()
    }

    /// Purges until nothing more comes of it; who holds the log back then.
    private static func purge(_ small: SmallLog) throws -> [RegionID] {
        while true {
            switch try small.log.purgeStep() {
            case .removed: continue
            case .carried: small.pump()
            case .pinned(let regions): return regions
            case .done: return []
            }
        }
    }

    private static func told(_ small: SmallLog) -> [[DamagedEntries]] {
        small.told.damages.withLock { $0.map(\.entries) }
    }

    private static func damage(_ first: UInt64, _ last: UInt64) -> DamagedEntries {
        DamagedEntries(region: RegionID(100), first: LogIndex(first), last: LogIndex(last))
    }

    /// The log is as small as without rot, and holds what it should.
    private static func expectFreed(_ small: SmallLog, _ entries: [Entry]) throws {
        #expect(try purge(small).allSatisfy { $0 == RegionID(1) })
        #expect(small.log.segments.count <= 4 && small.log.segments[0].header.segment > 1)
        small.claim()
        let again = try SmallLog.repaired(small.fileSystem, options: SmallLog.scanning)
        let first = entries[0].index.rawValue
        let last = entries[entries.count - 1].index.rawValue
        for log in [small, again] {
            #expect(try log.read(100, first...last) == entries)
            #expect(try log.read(101, 1...4) == SmallLog.entries(from: 1, count: 4))
        }
        #expect(again.recovered.allSatisfy { $0.damaged.isEmpty })
        #expect(small.fileSystem.problem == nil)
    }

    @Test("its owner is told once, and the others are written again meanwhile")
    func pinned() throws {
        let small = try Self.log()
        small.fileSystem.flip(try SmallLog.body(small.fileSystem, 100, from: 3))
        for _ in 0..<3 {
            #expect(try Self.purge(small) == [RegionID(100)])
            #expect(Self.told(small) == [[Self.damage(3, 4)]])
        }
        #expect(small.log.segments[0].header.segment == 1)
        #expect(small.log.statistics.damagedRanges == 1)
        #expect(try small.read(101, 1...4) == SmallLog.entries(from: 1, count: 4))
        let blocks = small.log.scheduler.regions
        let slot = try #require(blocks.find(RegionID(101)))
        #expect(blocks[slot].index.live.allSatisfy { $0.segment > 1 })
    }

    @Test("once it is mended its segment goes")
    func mended() throws {
        let small = try Self.log()
        small.fileSystem.flip(try SmallLog.body(small.fileSystem, 100, from: 3))
        #expect(try Self.purge(small) == [RegionID(100)])
        let whole = SmallLog.entries(from: 3, count: 2)
        #expect(try small.mend(100, from: 3, with: whole) == .mended)
        try Self.expectFreed(small, SmallLog.entries(from: 1, count: 4))
    }

    @Test("once the log is compacted past it its segment goes")
    func compacted() throws {
        let small = try Self.log()
        small.fileSystem.flip(try SmallLog.body(small.fileSystem, 100, from: 1))
        #expect(try Self.purge(small) == [RegionID(100)])
        #expect(Self.told(small) == [[Self.damage(1, 2)]])
        // In part is not enough.
        try Self.compact(small, 100, to: 2)
        #expect(try Self.purge(small) == [RegionID(100)])
        try Self.compact(small, 100, to: 3)
        try Self.expectFreed(small, SmallLog.entries(from: 3, count: 2))
    }

    @Test("once what is left of it is written anew its segment goes")
    func writtenAnew() throws {
        let small = try Self.log(supersedes: true)
        small.fileSystem.flip(try SmallLog.body(small.fileSystem, 100, from: 3))
        #expect(try Self.purge(small) == [RegionID(100)])
        #expect(Self.told(small) == [[Self.damage(3, 3)]])
        let left = SmallLog.entries(from: 3, count: 1)
        guard case .writtenAnew = try small.mend(100, from: 3, with: left) else {
            Issue.record("it is not written anew")
            return
        }
        // Under way it holds the segment still.
        #expect(try small.log.purgeStep() == .pinned([RegionID(100)]))
        small.pump()
        let entries =
            SmallLog.entries(from: 1, count: 3) + SmallLog.entries(from: 4, count: 1, term: 2)
        try Self.expectFreed(small, entries)
    }

    @Test("a disk that gives nothing is no rot")
    func failing() throws {
        let small = try Self.log()
        small.fileSystem.setHook { (operation) throws(FileError) in
            guard operation.kind != .read else {
                throw FileError(
                    kind: .ioFailed, operation: "\(operation.kind)", path: operation.path)
            }
        }
        #expect(try Self.purge(small) == [RegionID(100), RegionID(101)])
        #expect(Self.told(small) == [])
    }
}
