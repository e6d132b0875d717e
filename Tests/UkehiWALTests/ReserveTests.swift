// What a log that is started on a full volume has left: the reserve.

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

    /// Lets allocations fail that the volume has no room for.
    static func limit(_ fileSystem: SimulatedFileSystem, to volumeBytes: Int) {
        fileSystem.setHook { [weak fileSystem] (operation) throws(FileError) in
            guard operation.kind == .allocate, let fileSystem else { return }
            guard used(fileSystem) + operation.byteCount > volumeBytes else { return }
            throw FileError(kind: .noSpace, operation: "fallocate", path: operation.path, errno: 28)
        }
    }

    static func used(_ fileSystem: SimulatedFileSystem) -> Int {
        let names = (try? fileSystem.list(SmallLog.directory)) ?? []
        return names.reduce(0) { $0 + size(fileSystem, $1) }
    }

    static func size(_ fileSystem: SimulatedFileSystem, _ name: String) -> Int {
        guard let file = try? fileSystem.open(SmallLog.path(name), .read) else { return 0 }
        return Int((try? file.size()) ?? 0)
    }

    /// A log on a volume that it has filled; the last index that was acknowledged.
    static func fill(
        _ fileSystem: SimulatedFileSystem, _ options: WALOptions = options
    ) throws -> (volumeBytes: Int, lastIndex: UInt64) {
        let log = try SmallLog(fileSystem, options: options)
        log.pump()
        let volumeBytes = used(fileSystem)
        limit(fileSystem, to: volumeBytes)
        var index: UInt64 = 0
        while true {
            do throws(WALError) {
                try log.submit(1, from: index + 1, bytes: options.segmentBytes / 100)
            } catch {
                #expect(error.code == .diskFull)
                return (volumeBytes, log.deliveries.last?.ticket ?? 0)
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
        var (volumeBytes, last) = try Self.fill(fileSystem, Self.largerOptions)
        var random = SeededRandom(seed: 7)
        for start in 1...20 {
            fileSystem = fileSystem.crashed(using: &random)
            Self.limit(fileSystem, to: volumeBytes)
            let log = try SmallLog(fileSystem, options: Self.largerOptions, seed: UInt64(start))
            #expect(log.recovered.first?.lastIndex == LogIndex(last))
            #expect(log.log.room != .lastSegment)
            log.pump()
            try log.append(1, from: last + 1)
            last += 1
            #expect(log.log.room == .scarce)
            #expect(Self.used(fileSystem) <= volumeBytes)
        }
        // With space again, the next start has a whole segment and makes a whole reserve.
        fileSystem = fileSystem.crashed(using: &random)
        let log = try SmallLog(fileSystem, options: Self.largerOptions, seed: 99)
        log.pump()
        #expect(log.log.room == .ample)
        #expect(Self.size(fileSystem, "reserve") == 512 << 10)
        #expect(log.recovered.first?.lastIndex == LogIndex(last))
    }

    @Test("a start on a full volume that is cut anywhere can be made again")
    func cutAnywhere() throws {
        let full = SimulatedFileSystem()
        let last = try Self.fill(full).lastIndex
        var random = SeededRandom(seed: 3)
        var cuts = 0
        while true {
            let fileSystem = full.copy()
            cuts += 1
            let end = fileSystem.operations + cuts
            fileSystem.setHook { (operation) throws(FileError) in
                if operation.ordinal >= end {
                    throw FileError(kind: .ioFailed, operation: "cut", path: operation.path)
                }
                guard operation.kind == .allocate else { return }
                throw FileError(kind: .noSpace, operation: "fallocate", path: operation.path)
            }
            let isCut = (try? SmallLog(fileSystem, options: Self.options)) == nil
            for _ in 0..<4 {
                let after = fileSystem.crashed(using: &random)
                after.setHook { (operation) throws(FileError) in
                    guard operation.kind == .allocate else { return }
                    throw FileError(
                        kind: .noSpace, operation: "fallocate", path: operation.path)
                }
                // Once the segment has its name the reserve is used up, and without room no later start
                // succeeds: what the reserve does not hold (docs/decisions/0024).
                if (try? after.list(SmallLog.directory))?.contains("reserve") == false,
                    (try? after.list(SmallLog.directory))?.contains("next.tmp") == false
                {
                    after.setHook(nil)
                }
                let log = try SmallLog(after, options: Self.options, seed: 2)
                #expect(log.recovered.first?.lastIndex == LogIndex(last))
                try log.append(1, from: last + 1)
            }
            if !isCut { break }
        }
        #expect(cuts > 10)
    }

    @Test("what is no whole reserve is removed, and no file of this name is part of the log")
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
