// Compressed bodies: what is compressed, that it reads back, and what lies about it come to.

import Testing
import UkehiBase
import UkehiEnvironment
import UkehiSimulation

@testable import UkehiWAL

@Suite("Compression")
struct CompressionTests {
    private static var options: WALOptions {
        var options = SmallLog.options
        options.segmentBytes = 256 << 10
        options.maxGroupBytes = 64 << 10
        options.compressionThresholdBytes = 1 << 10
        return options
    }

    private func append(_ small: SmallLog, _ region: UInt64, _ entries: [Entry]) throws {
        var batch = small.log.newBatch()
        batch.append(region: RegionID(region), hardState: nil, entries: entries)
        _ = try small.log.submit(&batch, lane: 0)
        small.pump()
    }

    private func item(_ small: SmallLog, region: UInt64) throws -> BatchItem? {
        var found: BatchItem?
        try WALInspector(fileSystem: small.fileSystem, directory: SmallLog.directory).dump {
            if case .frame(let frame) = $0 {
                found = frame.batches.last { $0.region == RegionID(region) } ?? found
            }
            return true
        }
        return found
    }

    @Test("large bodies that shrink are compressed, small ones and noise are not")
    func choice() throws {
        let small = try SmallLog(options: Self.options)
        var random = SeededRandom(seed: 1)
        try append(small, 1, SmallLog.entries(from: 1, count: 4, bytes: 1000))
        try append(small, 2, SmallLog.entries(from: 1, count: 1, bytes: 1000))
        let noise = Entry(term: Term(1), index: LogIndex(1), data: Bytes(random.bytes(5000)))
        try append(small, 3, [noise])
        let large = try item(small, region: 1)
        #expect(large?.isCompressed == true)
        #expect(large.map { Int($0.rawBytes) } == 4 * 1016)
        #expect(large.map { $0.bodyBytes < 200 } == true)
        for region in [UInt64(2), 3] {
            let item = try item(small, region: region)
            #expect(item?.isCompressed == false)
            #expect(item.map { $0.bodyBytes == $0.rawBytes } == true)
        }
        // A body of exactly the threshold is large.
        try append(small, 4, SmallLog.entries(from: 1, count: 1, bytes: 1008))
        #expect(try item(small, region: 4)?.isCompressed == true)
    }

    @Test("noise is tried more and more rarely, text that follows is found again")
    func backOff() throws {
        let small = try SmallLog(options: Self.options)
        var random = SeededRandom(seed: 6)
        var batch = small.log.newBatch()
        // n: noise; t: text.
        for (position, kind) in "ntntttntt".enumerated() {
            let data =
                kind == "n"
                ? Bytes(random.bytes(2000)) : Bytes([UInt8](repeating: 7, count: 2000))
            batch.append(
                region: RegionID(UInt64(position + 1)), hardState: nil,
                entries: [Entry(term: Term(1), index: LogIndex(1), data: data)])
        }
        _ = try small.log.submit(&batch, lane: 0)
        small.pump()
        let compressed = try (UInt64(1)...9).filter {
            try item(small, region: $0)?.isCompressed == true
        }
        // The first noise costs the body behind it, the next one two; what shrinks ends that.
        #expect(compressed == [6, 9])
    }

    @Test("a log without compression has none, and its segments do not ask for it")
    func off() throws {
        var options = Self.options
        options.compressionThresholdBytes = nil
        let small = try SmallLog(options: options)
        try append(small, 1, SmallLog.entries(from: 1, count: 20, bytes: 1000))
        #expect(try item(small, region: 1)?.isCompressed == false)
        let path = SmallLog.path(small.segmentNames[0])
        #expect(small.fileSystem.contents(path)?[56] == 1)
        // The same directory goes on with it, and without it again.
        let packing = try SmallLog(small.fileSystem.copy(), options: Self.options, seed: 2)
        try append(packing, 1, SmallLog.entries(from: 21, count: 20, bytes: 1000))
        #expect(packing.fileSystem.contents(SmallLog.path(packing.segmentNames[1]))?[56] == 5)
        let plain = try SmallLog(packing.fileSystem.copy(), options: options, seed: 3)
        let entries = try plain.log.entries(
            region: RegionID(1), from: LogIndex(1), to: LogIndex(41), maxBytes: .max)
        #expect(entries == SmallLog.entries(from: 1, count: 40, bytes: 1000))
    }

    @Test("entries of any range read back, and no other body is touched")
    func reading() throws {
        let small = try SmallLog(options: Self.options)
        for first in [UInt64(1), 11, 21] {
            try append(small, 1, SmallLog.entries(from: first, count: 10, bytes: 700))
        }
        // The second half of the last body is superseded.
        try append(small, 1, SmallLog.entries(from: 26, count: 10, term: 2, bytes: 900))
        let wanted =
            SmallLog.entries(from: 1, count: 25, bytes: 700)
            + SmallLog.entries(from: 26, count: 10, term: 2, bytes: 900)
        for log in [small.log, try SmallLog.reopened(small.fileSystem).log] {
            for from in 1...35 {
                for to in [from + 1, from + 7, 36] where to <= 36 {
                    let found = try log.entries(
                        region: RegionID(1), from: LogIndex(UInt64(from)),
                        to: LogIndex(UInt64(to)), maxBytes: .max)
                    #expect(found == Array(wanted[(from - 1)..<(to - 1)]))
                }
            }
            // A bound on bytes is of the entries, not of what is stored.
            let some = try log.entries(
                region: RegionID(1), from: LogIndex(1), to: LogIndex(36), maxBytes: 7000)
            #expect(some.count == 10)
        }
        // The second body rots: the others are read all the same.
        let path = SmallLog.path(small.segmentNames[0])
        let frames = SegmentFormat.firstFrameOffset + FrameFormat.blockBytes
        let damaged = small.fileSystem
        damaged.damage(path, at: frames + 170, with: [UInt8](repeating: 0xff, count: 8))
        func read(_ from: UInt64, _ to: UInt64) throws(WALError) -> Int {
            try small.log.entries(
                region: RegionID(1), from: LogIndex(from), to: LogIndex(to), maxBytes: .max
            ).count
        }
        #expect(try read(1, 11) == 10)
        #expect(try read(21, 36) == 15)
        do throws(WALError) {
            _ = try read(11, 12)
            Issue.record("rot was read")
        } catch {
            #expect(error.code == .corrupted)
            #expect(error.position?.offset == UInt64(frames + 160))
        }
    }

    @Test("audit, dump, diff, stat and verify see through it")
    func tools() throws {
        let logs = try [1 << 10, nil].map { threshold in
            var options = Self.options
            options.compressionThresholdBytes = threshold
            let small = try SmallLog(options: options)
            for first in [UInt64(1), 6, 9] {
                try append(small, 1, SmallLog.entries(from: first, count: 6, bytes: 1200))
            }
            small.claim()
            return WALInspector(fileSystem: small.fileSystem, directory: SmallLog.directory)
        }
        let audits = logs.map { $0.audit() }
        #expect(audits[0].isSound)
        #expect(audits[0].regions == audits[1].regions)
        #expect(logs[0].diff(with: logs[1]).regions.allSatisfy { $0.verdict == .equal })
        #expect(logs[0].diff(with: logs[1]).comparedEntries == 14)
        let entries = try logs.map { log in
            var entries: [WALInspector.EntryInfo] = []
            try log.dump {
                if case .entry(let entry) = $0 { entries.append(entry) }
                return true
            }
            return entries
        }
        #expect(entries[0].map(\.data) == entries[1].map(\.data))
        #expect(entries[0].count == 18)
        let stat = logs[0].stat()
        #expect(stat.compressedBatches == 3)
        #expect(stat.rawBytes == logs[1].stat().bodyBytes)
        #expect(stat.compressionRatio.reduce(0, +) == 3)
        #expect(stat.compressionRatio[0] == 3)
        let verified = logs[0].verify()
        #expect(verified.problem == nil)
        #expect(verified.compressedBatches == 3)
        #expect(verified.rawBytes == stat.rawBytes && verified.bodyBytes == stat.bodyBytes)
    }

    // MARK: Lies

    /// A log with one compressed body, whose item is changed under right checksums.
    private func lied(_ change: (inout [UInt8], _ item: Int, _ body: Int) -> Void) throws
        -> SimulatedFileSystem
    {
        let small = try SmallLog(options: Self.options)
        try append(small, 1, SmallLog.entries(from: 1, count: 4, bytes: 1000))
        small.claim()
        let path = SmallLog.path(small.segmentNames[0])
        var bytes = small.fileSystem.contents(path) ?? []
        let frame = SegmentFormat.firstFrameOffset
        change(&bytes, frame + 80, frame + 160)
        bytes.withUnsafeMutableBytes { raw in
            guard let base = raw.baseAddress.map({ $0 + frame }) else { return }
            let item = base + 80
            let length = min(Int(UnsafeRawPointer(item).get(UInt32.self, at: 56)), 4096 - 160)
            let seed = FrameFormat.bodySeed(region: RegionID(1), firstIndex: LogIndex(1))
            let body = UnsafeRawBufferPointer(start: base + 160, count: length)
            item.put(CRC32C.checksum(body, seed: seed), at: 64)
            let directory = UnsafeRawBufferPointer(start: item, count: 80)
            base.put(CRC32C.checksum(directory), at: 64)
            base.put(CRC32C.checksum(UnsafeRawBufferPointer(start: base + 8, count: 72)), at: 4)
            // The claim behind it follows this frame's checksum.
            let next = base + 4096
            next.put(UnsafeRawPointer(base).get(UInt32.self, at: 4), at: 56)
            next.put(CRC32C.checksum(UnsafeRawBufferPointer(start: next + 8, count: 72)), at: 4)
        }
        small.fileSystem.replace(path, with: bytes)
        return small.fileSystem
    }

    private func put(_ value: UInt32, _ bytes: inout [UInt8], at offset: Int) {
        for byte in 0..<4 {
            bytes[offset + byte] = UInt8(truncatingIfNeeded: value >> UInt32(8 * byte))
        }
    }

    @Test("a length that is not what the block holds is corruption, with its place")
    func wrongLength() throws {
        let sound = try lied { _, _, _ in }
        #expect(openingError(sound) == nil)
        for raw in [4 * 1016 - 1, 4 * 1016 + 1, 4 * 16, 5000] as [UInt32] {
            let fileSystem = try lied { bytes, item, _ in put(raw, &bytes, at: item + 60) }
            let error = openingError(fileSystem)
            #expect(error?.code == .corrupted, "\(raw)")
            let place = LogPosition(segment: 1, offset: UInt64(SegmentFormat.firstFrameOffset))
            #expect(error?.position == place, "\(raw)")
            let inspector = WALInspector(
                fileSystem: fileSystem, directory: SmallLog.directory)
            #expect(inspector.verify().problem?.code == .corrupted)
            #expect(inspector.audit().problem?.code == .corrupted)
        }
    }

    @Test("a length that no block can have is refused before room is made for it")
    func impossibleLength() throws {
        let stored = UInt32(try item(Self.one(), region: 1)?.bodyBytes ?? 0)
        for raw in [0, 1, stored, stored * 255 + 1, 1 << 29, (1 << 29) + 1, .max] as [UInt32] {
            let error = openingError(
                try lied { bytes, item, _ in put(raw, &bytes, at: item + 60) })
            #expect(error?.code == .corrupted, "\(raw)")
        }
        // Other kinds and empty appends are never compressed.
        for (offset, value) in [(8, UInt8(3)), (8, 6), (12, 0)] {
            let error = openingError(
                try lied { bytes, item, _ in bytes[item + offset] = value })
            #expect(error?.code == .corrupted)
        }
    }

    private static func one() throws -> SmallLog {
        let small = try SmallLog(options: options)
        try CompressionTests().append(small, 1, SmallLog.entries(from: 1, count: 4, bytes: 1000))
        return small
    }

    @Test("a block of any bytes is read to its length or refused")
    func junkBlocks() throws {
        var random = SeededRandom(seed: 3)
        for round in 0..<300 {
            let fileSystem = try lied { bytes, _, body in
                for _ in 0...(round % 4) {
                    bytes[body + Int.random(in: 0..<40, using: &random)] = UInt8(
                        truncatingIfNeeded: random.next())
                }
            }
            if let error = openingError(fileSystem) { #expect(error.code == .corrupted) }
        }
    }

    @Test("a compressed body in a segment that says it has none is not right")
    func undeclared() throws {
        let fileSystem = try lied { bytes, _, _ in
            for copy in [0, 4096] {
                bytes[copy + 56] &= ~4
                let checksum = bytes[(copy + 12)..<(copy + 88)].withUnsafeBytes {
                    CRC32C.checksum($0)
                }
                put(checksum, &bytes, at: copy + 8)
            }
        }
        #expect(openingError(fileSystem)?.code == .corrupted)
    }
}
