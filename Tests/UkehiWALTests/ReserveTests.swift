// What a log that is started on a full volume has left: the reserve.

import Synchronization
import Testing
import UkehiBase
import UkehiEnvironment
import UkehiSimulation

@testable import UkehiWAL

@Suite("Reserve for a start")
struct ReserveTests {
    static var options: WALOptions {
        var options = SmallLog.options
        options.segmentBytes = 512 << 10
        return options
    }
    /// The same with room in the reserve for the headers of many short segments.
    static var largerOptions: WALOptions {
        var options = options
        options.segmentBytes = 2 << 20
        return options
    }

    static func size(_ fileSystem: SimulatedFileSystem, _ name: String) -> Int {
        guard let file = try? fileSystem.open(SmallLog.path(name), .read) else { return 0 }
        return Int((try? file.size()) ?? 0)
    }

    /// A log on a volume that it has filled; the last index that was acknowledged.
    static func fill(
        _ fileSystem: SimulatedFileSystem, _ options: WALOptions = options
    ) throws -> UInt64 {
        let log = try SmallLog(fileSystem, options: options)
        log.pump()
        fileSystem.setVolume(byteCount: fileSystem.usedBytes)
        var index: UInt64 = 0
        while true {
            do throws(WALError) {
                try log.submit(1, from: index + 1, bytes: options.segmentBytes / 100)
            } catch {
                #expect(error.code == .diskFull)
                return log.deliveries.last?.ticket ?? 0
            }
            index += 1
            log.pump()
        }
    }

    @Test("is made behind the first segments, and a file system without allocation has none")
    func made() throws {
        let fileSystem = SimulatedFileSystem()
        var log = try SmallLog(fileSystem, options: Self.options)
        log.pump()
        #expect(Self.size(fileSystem, "reserve") == 128 << 10)
        #expect(log.log.space.idleBytes == (512 + 128) << 10)
        let report = WALInspector(fileSystem: fileSystem, directory: SmallLog.directory).stat()
        #expect(report.reservedBytes == 128 << 10)

        let plain = SimulatedFileSystem()
        plain.setAllocationSupported(false)
        log = try SmallLog(plain, options: Self.options)
        log.pump()
        #expect(!plain.exists(SmallLog.path("reserve")))
        let before = plain.operations
        log.pump()
        #expect(plain.operations == before)
    }

    @Test("a node that is started again and again on a full volume comes up, and loses nothing")
    func manyStarts() throws {
        var fileSystem = SimulatedFileSystem()
        var last = try Self.fill(fileSystem, Self.largerOptions)
        var random = SeededRandom(seed: 7)
        for start in 1...20 {
            fileSystem = fileSystem.crashed(using: &random)
            let log = try SmallLog(fileSystem, options: Self.largerOptions, seed: UInt64(start))
            #expect(log.recovered.first?.lastIndex == LogIndex(last))
            #expect(log.log.roomLeft.room == .scarce)
            log.pump()
            try log.append(1, from: last + 1)
            last += 1
            #expect(log.log.roomLeft.room == .scarce)
        }
        // With space again the running log makes the reserve whole, and the next start has a whole segment.
        fileSystem = fileSystem.crashed(using: &random)
        var log = try SmallLog(fileSystem, options: Self.largerOptions, seed: 98)
        log.pump()
        fileSystem.setVolume(byteCount: nil)
        log.clock.advance(byNanoseconds: 1_000_000_000)
        log.pump()
        #expect(log.log.roomLeft.room == .ample)
        #expect(Self.size(fileSystem, "reserve") == 512 << 10)
        fileSystem = fileSystem.crashed(using: &random)
        log = try SmallLog(fileSystem, options: Self.largerOptions, seed: 99)
        #expect(log.log.roomLeft.room == .ample)
        #expect(Self.size(fileSystem, "reserve") == 512 << 10)
        #expect(log.recovered.first?.lastIndex == LogIndex(last))
    }

    @Test(
        "a node that ends right after each start, as one whose port is taken, can be started again")
    func endsAtOnce() throws {
        var fileSystem = SimulatedFileSystem()
        let last = try Self.fill(fileSystem, Self.largerOptions)
        var random = SeededRandom(seed: 11)
        for start in 1...40 {
            fileSystem = fileSystem.crashed(using: &random)
            let log = try SmallLog(fileSystem, options: Self.largerOptions, seed: UInt64(start))
            #expect(log.recovered.first?.lastIndex == LogIndex(last))
            #expect(fileSystem.exists(SmallLog.path("reserve")))
        }
    }

    @Test("a start on a full volume that is cut anywhere can be made again, and cut there again")
    func cutAnywhere() throws {
        let full = SimulatedFileSystem()
        let last = try Self.fill(full, Self.largerOptions)
        var random = SeededRandom(seed: 3)
        var cuts = 0
        while true {
            var fileSystem = full.copy()
            cuts += 1
            var isCut = false
            for _ in 0..<4 {
                let end = fileSystem.operations + cuts
                fileSystem.setHook { (operation) throws(FileError) in
                    if operation.ordinal >= end {
                        throw FileError(kind: .ioFailed, operation: "cut", path: operation.path)
                    }
                }
                isCut = (try? SmallLog(fileSystem, options: Self.largerOptions)) == nil
                fileSystem = fileSystem.crashed(using: &random)
                let log = try SmallLog(
                    fileSystem.copy(), options: Self.largerOptions, seed: UInt64(cuts))
                #expect(log.recovered.first?.lastIndex == LogIndex(last))
                try log.append(1, from: last + 1)
            }
            if !isCut { break }
        }
        #expect(cuts > 10)
    }

    @Test("tails that starts left which were cut are given back where there is no room")
    func leakedTails() throws {
        var options = Self.options
        options.rarePaths = RarePaths(
            random: SeededRandomSource(seed: 1), only: [.oldTailKept], chance: 1 << 16)
        let first = try SmallLog(options: options)
        first.pump()
        try first.append(1, from: 1)
        var fileSystem = first.fileSystem
        for seed in 2...4 {
            fileSystem = fileSystem.copy()
            fileSystem.processEnded()
            _ = try SmallLog(fileSystem, options: options, seed: UInt64(seed))
        }
        #expect(Self.size(fileSystem, LogNames.segment(2)) == 512 << 10)
        try fileSystem.remove(SmallLog.path("reserve"))
        fileSystem = fileSystem.copy()
        fileSystem.setVolume(byteCount: fileSystem.usedBytes)
        let log = try SmallLog(fileSystem, options: options, seed: 9)
        #expect(log.recovered.first?.lastIndex == LogIndex(1))
        #expect(Self.size(fileSystem, LogNames.segment(2)) < 512 << 10)
    }

    @Test("a reserve that somebody removed for its space is made again, and the log goes on")
    func removed() throws {
        var fileSystem = SimulatedFileSystem()
        let last = try Self.fill(fileSystem, Self.largerOptions)
        fileSystem = fileSystem.copy()
        fileSystem.setVolume(byteCount: fileSystem.usedBytes)
        let log = try SmallLog(fileSystem, options: Self.largerOptions, seed: 2)
        log.pump()
        #expect(Self.size(fileSystem, "reserve") < 512 << 10)
        try fileSystem.remove(SmallLog.path("reserve"))
        fileSystem.setVolume(byteCount: nil)
        for _ in 0..<3 {
            log.clock.advance(byNanoseconds: 1_000_000_000)
            log.pump()
        }
        #expect(Self.size(fileSystem, "reserve") == 512 << 10)
        #expect(log.told.failure.withLock { $0 } == nil)
        try log.append(1, from: last + 1)
    }

    @Test("a segment that was made ready is the first one of the next start, not a reserve")
    func prepared() throws {
        var fileSystem = SimulatedFileSystem()
        let log = try SmallLog(fileSystem, options: Self.options)
        log.pump()
        try log.append(1, from: 1)
        #expect(Self.size(fileSystem, LogNames.next) == 512 << 10)
        try fileSystem.remove(SmallLog.path("reserve"))
        fileSystem = fileSystem.copy()
        fileSystem.setVolume(byteCount: fileSystem.usedBytes)
        let next = try SmallLog(fileSystem, options: Self.options, seed: 2)
        #expect(next.log.segments.last?.header.capacity == 512 << 10)
        #expect(fileSystem.exists(SmallLog.path("reserve")))
        try next.append(1, from: 2)
    }

    @Test("with less room than a reserve takes a start has the smallest segment there is")
    func smallestSegment() throws {
        var fileSystem = SimulatedFileSystem()
        let last = try Self.fill(fileSystem)
        try fileSystem.remove(SmallLog.path("reserve"))
        fileSystem = fileSystem.copy()
        fileSystem.setVolume(byteCount: fileSystem.usedBytes + 20 << 10)
        let log = try SmallLog(fileSystem, options: Self.options, seed: 2)
        #expect(log.recovered.first?.lastIndex == LogIndex(last))
        #expect(log.log.roomLeft.room == .scarce)
        try log.append(1, from: last + 1)
    }

    @Test(
        "a frame that has no room in a short segment is not written past its end", arguments: 0...4)
    func largeBatch(before: UInt64) throws {
        var fileSystem = SimulatedFileSystem()
        let last = try Self.fill(fileSystem)
        fileSystem = fileSystem.copy()
        fileSystem.setVolume(byteCount: fileSystem.usedBytes)
        let log = try SmallLog(fileSystem, options: Self.options, seed: 2)
        let short = try #require(log.log.segments.last)
        #expect(short.header.capacity == 64 << 10)
        #expect(throws: WALError.self) { try log.submit(1, from: last + 1, bytes: 200 << 10) }
        for index in 0..<before { try log.submit(1, from: last + 1 + index, bytes: 9 << 10) }
        log.pump()
        #expect(log.told.failure.withLock { $0 } == nil)
        #expect(log.deliveries.last?.ticket ?? 0 == before)
        // With room again it goes into the next segment.
        fileSystem.setVolume(byteCount: nil)
        log.clock.advance(byNanoseconds: 1_000_000_000)
        log.pump()
        try log.submit(1, from: last + 1 + before, bytes: 200 << 10)
        log.pump()
        #expect(log.deliveries.last?.ticket == before + 1)
        #expect(try short.file.size() == 64 << 10)
    }

    @Test("a log that is opened with smaller segments keeps what it has, cut to its size")
    func smallerSegments() throws {
        let first = try SmallLog(options: Self.largerOptions)
        try first.append(1, from: 1)
        let fileSystem = first.fileSystem.copy()
        fileSystem.setVolume(byteCount: fileSystem.usedBytes)
        _ = try SmallLog(fileSystem, options: Self.options, seed: 2)
        #expect(Self.size(fileSystem, "reserve") == 128 << 10)
    }

    @Test("whatever is there under the reserve's name becomes one, and is no part of the log")
    func strange() throws {
        for bytes in [0, 1, 4096, 100_000, 1 << 20] {
            let first = try SmallLog(options: Self.options)
            try first.append(1, from: 1)
            let fileSystem = first.fileSystem.copy()
            fileSystem.replace(
                SmallLog.path("reserve"), with: [UInt8](repeating: 0xAB, count: bytes))
            let log = try SmallLog(fileSystem, options: Self.options, seed: 2)
            #expect(log.recovered.first?.lastIndex == LogIndex(1))
            log.pump()
            #expect(Self.size(fileSystem, "reserve") == 128 << 10)
        }
    }
}
