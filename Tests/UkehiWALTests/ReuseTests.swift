// Dead segments' files in their next life.

import Synchronization
import Testing
import UkehiBase
import UkehiEnvironment
import UkehiSimulation

@testable import UkehiWAL

@Suite("Reuse of segments")
struct ReuseTests {
    /// Entries of 3,000 bytes until `last`, all but the newest compacted away and purged as they come.
    private func run(_ small: SmallLog, _ indexes: ClosedRange<UInt64>) throws {
        for index in indexes {
            try small.append(1, from: index, bytes: 3000)
            var batch = LogBatch()
            batch.compact(region: RegionID(1), firstIndex: LogIndex(index), term: Term(1))
            _ = try small.log.submit(&batch, lane: 0)
            small.pump()
            purging: while true {
                switch try small.log.purgeStep() {
                case .removed: continue
                case .carried: small.pump()
                case .pinned, .done: break purging
                }
            }
        }
    }

    @Test("a log that is freed as fast as it grows makes no more files and writes no more zeros")
    func steady() throws {
        let small = try SmallLog()
        try run(small, 1...30)
        let before = small.log.statistics
        let made = Mutex<[SimulatedOperation.Kind: Int]>([:])
        small.fileSystem.setHook { (operation) throws(FileError) in
            made.withLock { $0[operation.kind, default: 0] += 1 }
        }
        try run(small, 31...90)
        small.fileSystem.setHook(nil)
        let after = small.log.statistics
        let activated = after.segmentsActivated - before.segmentsActivated
        #expect(activated > 10)
        #expect(after.segmentsReused - before.segmentsReused >= activated - 1)
        #expect(made.withLock { $0[.allocate] } == nil)
        // Frames; a header and a mark for each segment that began, a footer and a mark for each that
        // ended.
        let writes = made.withLock { $0[.writeDurably] ?? 0 }
        #expect(UInt64(writes) <= after.frames - before.frames + 4 * activated + 4)
        #expect(small.segmentNames.count <= 3)

        let report = WALInspector(fileSystem: small.fileSystem, directory: "/data").audit()
        #expect(report.isSound)
        let again = try SmallLog.reopened(small.fileSystem)
        #expect(again.recovered.map(\.lastIndex.rawValue) == [90])
        #expect(again.recovered.map(\.firstIndex.rawValue) == [90])
        // What the restart finds dead it removes.
        #expect(again.segmentNames.count <= 2)
    }

    @Test("a segment that a reader still holds is not used again")
    func held() throws {
        let small = try SmallLog()
        try small.append(1, from: 1, bytes: 3000)
        let held = try #require(small.log.segments.first)
        try run(small, 2...20)
        #expect(small.log.statistics.segmentsRemoved > 2)
        #expect(!small.segmentNames.contains(LogNames.segment(1)))
        // Its bytes are those of its one life.
        #expect(held.header.segment == 1)
        var bytes = [UInt8](repeating: 0, count: 8)
        _ = try readFully(held.file, into: &bytes, at: 24)
        #expect(bytes == [1, 0, 0, 0, 0, 0, 0, 0])
    }
}
