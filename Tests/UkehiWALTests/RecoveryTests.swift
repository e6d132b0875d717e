// What a directory may hold when a log is opened, and what opening makes of it.

import Testing
import UkehiBase
import UkehiEnvironment
import UkehiSimulation

@testable import UkehiWAL

@Suite("Recovery")
struct RecoveryTests {
    /// A log of several segments with everything claimed.
    private func longLog() throws -> SmallLog {
        let small = try SmallLog()
        for index in UInt64(1)...40 {
            try small.append(1 + index % 3, from: (index - 1) / 3 + 1, bytes: 2000)
        }
        small.claim()
        return small
    }

    @Test("every kind of record comes back")
    func kinds() throws {
        let small = try SmallLog()
        var batch = LogBatch()
        let hardState = HardState(term: Term(6), vote: PeerID(9), commit: LogIndex(5))
        batch.birth(region: RegionID(2), payload: "child", hardState: hardState)
        batch.reset(region: RegionID(2), index: LogIndex(5), term: Term(5))
        batch.append(
            region: RegionID(2), hardState: nil,
            entries: SmallLog.entries(from: 6, count: 4, term: 6)
                + SmallLog.entries(from: 10, count: 2, term: 7))
        batch.compact(region: RegionID(2), firstIndex: LogIndex(8), term: Term(6))
        batch.birth(region: RegionID(3), payload: "short-lived", hardState: .empty)
        batch.tombstone(region: RegionID(3), payload: "merged")
        _ = try small.log.submit(&batch, lane: 0)
        small.pump()
        let again = try SmallLog.reopened(small.fileSystem)
        #expect(
            again.recovered == [
                RecoveredRegion(
                    region: RegionID(2), birth: "child", hardState: hardState,
                    firstIndex: LogIndex(8), lastIndex: LogIndex(11), compactedTerm: Term(6),
                    terms: [
                        TermRun(start: LogIndex(8), term: Term(6)),
                        TermRun(start: LogIndex(10), term: Term(7)),
                    ],
                    tombstone: nil, damaged: []),
                RecoveredRegion(
                    region: RegionID(3), birth: nil, hardState: .empty, firstIndex: LogIndex(1),
                    lastIndex: .zero, compactedTerm: .zero, terms: [], tombstone: "merged",
                    damaged: []),
            ])
    }

    @Test("reading gives what was asked for, within the bytes allowed")
    func reading() throws {
        let small = try SmallLog()
        try small.append(1, from: 1, count: 10)
        try small.append(1, from: 11, count: 10)
        try small.append(1, from: 16, count: 2, term: 2)
        let log = small.log
        func read(_ from: UInt64, _ to: UInt64, _ maxBytes: Int = .max) throws -> [UInt64] {
            try log.entries(
                region: RegionID(1), from: LogIndex(from), to: LogIndex(to), maxBytes: maxBytes
            ).map(\.index.rawValue)
        }
        #expect(try read(1, 18) == Array(1...17))
        #expect(try read(9, 13) == Array(9...12))
        #expect(try read(9, 13, 0) == [9])
        #expect(try read(9, 18, 350) == [9, 10, 11])
        #expect(try read(5, 5) == [])
        let superseding = try log.entries(
            region: RegionID(1), from: LogIndex(15), to: LogIndex(18), maxBytes: .max)
        #expect(superseding.map(\.term.rawValue) == [1, 2, 2])
        #expect(throws: WALError.self) { try read(17, 19) }
        #expect(throws: WALError.self) {
            try log.entries(region: RegionID(7), from: LogIndex(1), to: LogIndex(2), maxBytes: 1)
        }
        var batch = LogBatch()
        batch.compact(region: RegionID(1), firstIndex: LogIndex(5), term: Term(1))
        _ = try log.submit(&batch, lane: 0)
        small.pump()
        #expect(try read(5, 8) == [5, 6, 7])
        #expect {
            _ = try read(4, 8)
        } throws: {
            ($0 as? WALError)?.code == .compacted
        }
    }

    @Test("a sequence number is never given twice")
    func sequenceNumbersGrow() throws {
        var fileSystem = SimulatedFileSystem()
        var last: UInt64 = 0
        for round in UInt64(1)...5 {
            let small = try SmallLog(fileSystem, seed: round)
            #expect(small.log.scheduler.nextLSN > last)
            try small.append(1, from: round)
            // A frame that is lost whole, in flight: its number is known to nobody afterwards.
            try small.submit(2, from: 1)
            guard case .frame? = small.log.takeWork() else { throw ModelMismatch("no frame") }
            last = small.log.scheduler.nextLSN - 1
            fileSystem = small.fileSystem.copy()
        }
    }

    @Test(
        "an acknowledged frame that rots is corruption once it is claimed, and a torn tail before")
    func claimsTellTornFromCorrupt() throws {
        let small = try SmallLog()
        try small.append(1, from: 1)
        try small.append(1, from: 2)
        let offset = Int(small.log.statistics.bytesWritten) - 4096 + SegmentFormat.firstFrameOffset
        func rotten() -> SimulatedFileSystem {
            let copy = small.fileSystem.copy()
            let path = SmallLog.path(small.segmentNames[0])
            var bytes = copy.contents(path) ?? []
            bytes[offset + 200] ^= 1
            copy.replace(path, with: bytes)
            return copy
        }
        #expect(try SmallLog(rotten()).recovered[0].lastIndex == LogIndex(1))
        small.claim()
        let error = openingError(rotten())
        #expect(error?.code == .corrupted)
        #expect(error?.position == LogPosition(segment: 1, offset: UInt64(offset)))
        #expect(error?.message.contains("entries 2 to 2 of r1") == true)
    }

    @Test("a missing segment is named, wherever it is missing")
    func missingSegment() throws {
        let small = try longLog()
        let names = small.segmentNames
        #expect(names.count >= 4)
        for (position, name) in names.enumerated() {
            let copy = small.fileSystem.copy()
            try copy.remove(SmallLog.path(name))
            let error = openingError(copy)
            #expect(error?.code == .corrupted)
            #expect(error?.position?.segment == UInt64(position + 1))
            #expect(error?.message.contains("segment \(position + 1) is missing") == true)
        }
    }

    @Test("a truncated segment is found, wherever it is cut")
    func truncatedSegment() throws {
        let small = try longLog()
        for name in small.segmentNames {
            let path = SmallLog.path(name)
            let size = small.fileSystem.contents(path)?.count ?? 0
            for cut in stride(from: 0, to: size, by: 1777) {
                let copy = small.fileSystem.copy()
                copy.replace(path, with: Array((copy.contents(path) ?? []).prefix(cut)))
                let error = openingError(copy)
                // Behind its stated end a sealed segment holds nothing.
                guard let error else {
                    let again = try SmallLog(copy.copy())
                    #expect(again.recovered == (try SmallLog.reopened(small.fileSystem)).recovered)
                    continue
                }
                #expect(error.code == .corrupted, "cut at \(cut): \(error)")
            }
        }
    }

    @Test("files that do not belong are named and left alone")
    func foreignFiles() throws {
        let small = try longLog()
        let names = small.segmentNames

        let stray = small.fileSystem.copy()
        stray.replace(SmallLog.path("notes.txt"), with: [1])
        #expect(openingError(stray)?.code == .identity)
        #expect(openingError(stray)?.message.contains("notes.txt") == true)

        let swapped = small.fileSystem.copy()
        let (a, b) = (SmallLog.path(names[0]), SmallLog.path(names[1]))
        swapped.replace(a, with: small.fileSystem.contents(b) ?? [])
        swapped.replace(b, with: small.fileSystem.contents(a) ?? [])
        #expect(openingError(swapped)?.code == .identity)

        let other = try SmallLog(SimulatedFileSystem(), seed: 777)
        for index in UInt64(1)...20 { try other.append(1, from: index, bytes: 3000) }
        let mixed = small.fileSystem.copy()
        mixed.replace(b, with: other.fileSystem.contents(b) ?? [])
        #expect(openingError(mixed)?.code == .identity)

        let unmarked = small.fileSystem.copy()
        try unmarked.remove(SmallLog.path(LogNames.mark))
        #expect(openingError(unmarked)?.code == .corrupted)
    }

    @Test("a newer version is refused, not misread")
    func newerVersion() throws {
        let small = try longLog()
        let copy = small.fileSystem.copy()
        let path = SmallLog.path(small.segmentNames[0])
        var bytes = copy.contents(path) ?? []
        for block in [0, FrameFormat.blockBytes] {
            bytes[block + 12] = 2
            let checksum = bytes.withUnsafeBytes {
                CRC32C.checksum(
                    UnsafeRawBufferPointer(
                        rebasing: $0[(block + 12)..<(block + SegmentFormat.headerBytes)]))
            }
            withUnsafeBytes(of: checksum.littleEndian) {
                bytes.replaceSubrange((block + 8)..<(block + 12), with: $0)
            }
        }
        copy.replace(path, with: bytes)
        #expect(openingError(copy)?.code == .unsupportedVersion)
    }

    @Test("a directory that claims the last segment id there is does not end the process")
    func lastSegment() throws {
        let last = UInt64(UInt32.max)
        let mark = LogMark(log: 7, sequence: 2, oldest: last, newest: last)
        let header = SegmentHeader(
            log: 7, segment: last, incarnation: 1, firstLSN: 5, capacity: 1 << 20,
            isAllocated: false, predecessor: last - 1, predecessorEnd: 8192,
            predecessorLastLSN: 4, predecessorChecksum: 0)
        func bytes(_ encode: (UnsafeMutableRawPointer) -> Void) -> [UInt8] {
            let buffer = FrameBuffer(capacity: SegmentFormat.firstFrameOffset)
            buffer.base.initializeMemory(as: UInt8.self, repeating: 0, count: buffer.capacity)
            encode(buffer.base)
            return Array(UnsafeRawBufferPointer(start: buffer.base, count: buffer.capacity))
        }
        let fileSystem = SimulatedFileSystem()
        try fileSystem.createDirectory(SmallLog.directory)
        fileSystem.replace(SmallLog.path(LogNames.mark), with: bytes { mark.encode(to: $0) })
        fileSystem.replace(
            SmallLog.path(LogNames.segment(last)), with: bytes { header.encode(to: $0) })
        let error = #expect(throws: WALError.self) { _ = try SmallLog.reopened(fileSystem) }
        #expect(error?.code == .corrupted)
        #expect(error?.position?.segment == last)
    }

    @Test("a directory in use is refused")
    func locked() throws {
        let small = try SmallLog()
        #expect {
            _ = try SmallLog(small.fileSystem)
        } throws: {
            ($0 as? WALError)?.code == .locked
        }
        small.log.stop()
        _ = try SmallLog(small.fileSystem)
    }

    @Test("purge frees dead segments, names what holds one back, and keeps every state")
    func purge() throws {
        let small = try longLog()
        var batch = LogBatch()
        batch.append(
            region: RegionID(50), hardState: HardState(term: Term(3), vote: PeerID(2)), entries: [])
        batch.birth(region: RegionID(51), payload: "idle", hardState: .empty)
        _ = try small.log.submit(&batch, lane: 0)
        small.pump()
        #expect(small.log.pinnedBy() == [RegionID(1), RegionID(2), RegionID(3)])
        for index in UInt64(1)...20 { try small.append(4, from: index, bytes: 3000) }
        for (region, first) in [(1, 14), (2, 15), (3, 14), (4, 21)] as [(UInt64, UInt64)] {
            var batch = LogBatch()
            batch.compact(region: RegionID(region), firstIndex: LogIndex(first), term: Term(1))
            _ = try small.log.submit(&batch, lane: 0)
        }
        small.pump()
        let before = try SmallLog.reopened(small.fileSystem).recovered
        var removed = 0
        var carried = 0
        purging: while true {
            switch try small.log.purgeStep() {
            case .removed: removed += 1
            case .carried(let regions, _):
                carried += regions
                small.pump()
            case .pinned, .done: break purging
            }
            #expect(try SmallLog.reopened(small.fileSystem).recovered == before)
        }
        #expect(removed >= 3)
        #expect(carried >= 1)
        #expect(WALInspector(fileSystem: small.fileSystem, directory: "/data").audit().isSound)
    }
}
