// Snapshots as files on the real disk: of their own name only when whole.

import Testing
import UkehiBase
import UkehiEnvironment
import UkehiPOSIX
import UkehiState
import _UkehiTestSupport

/// A disk that is full after so many bytes.
private final class SmallDisk: FileSystem {
    private let real = POSIXFileSystem()
    private let bytes: UInt64
    init(bytes: UInt64) { self.bytes = bytes }

    private final class SmallFile: File {
        let real: any File
        let bytes: UInt64
        init(_ real: any File, _ bytes: UInt64) {
            self.real = real
            self.bytes = bytes
        }
        func read(
            into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64
        ) throws(FileError) -> Int { try real.read(into: buffer, at: offset) }
        func write(_ source: UnsafeRawBufferPointer, at offset: UInt64) throws(FileError) {
            guard offset + UInt64(source.count) <= bytes else {
                throw FileError(kind: .noSpace, operation: "pwrite", path: "small")
            }
            try real.write(source, at: offset)
        }
        func writeDurably(_ source: UnsafeRawBufferPointer, at offset: UInt64) throws(FileError) {
            try write(source, at: offset)
        }
        func sync() throws(FileError) { try real.sync() }
        func truncate(to byteCount: UInt64) throws(FileError) { try real.truncate(to: byteCount) }
        func allocate(byteCount: UInt64) throws(FileError) {
            try real.allocate(byteCount: byteCount)
        }
        func size() throws(FileError) -> UInt64 { try real.size() }
        func close() { real.close() }
    }
    func open(_ path: String, _ mode: OpenMode) throws(FileError) -> any File {
        SmallFile(try real.open(path, mode), bytes)
    }
    func rename(_ source: String, to target: String) throws(FileError) {
        try real.rename(source, to: target)
    }
    func remove(_ path: String) throws(FileError) { try real.remove(path) }
    func createDirectory(_ path: String) throws(FileError) { try real.createDirectory(path) }
    func list(_ directory: String) throws(FileError) -> [String] { try real.list(directory) }
    func syncDirectory(_ path: String) throws(FileError) { try real.syncDirectory(path) }
    func exists(_ path: String) -> Bool { real.exists(path) }
    func lock(_ path: String) throws(FileError) -> any FileLock { try real.lock(path) }
}

@Suite("Snapshots: files")
struct SnapshotFileTests {
    private func write(
        _ pairs: [Pair], to path: String, _ disk: any FileSystem = POSIXFileSystem()
    ) throws -> SnapshotFooter {
        let writer = try SnapshotFileWriter(
            disk, path: path, Sample.header(), state: Sample.state,
            options: Sample.options(frameBytes: 4096))
        do {
            for pair in pairs { try Sample.append(pair, to: writer.encoder) }
            return try writer.finish()
        } catch {
            writer.abandon()
            throw error
        }
    }

    @Test("a file has its name when it is whole; what an attempt left behind is replaced")
    func names() throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let disk = POSIXFileSystem()
        let path = directory.path + "/r.snapshot"
        let partial = SnapshotFileWriter.partialPath(path)
        let leftover = try disk.open(partial, .createNew)
        leftover.close()

        let writer = try SnapshotFileWriter(
            disk, path: path, Sample.header(), state: Sample.state)
        #expect(try disk.list(directory.path) == ["r.snapshot.partial"])
        writer.abandon()
        #expect(try disk.list(directory.path).isEmpty)

        let pairs = Sample.pairs(1000)
        let footer = try write(pairs, to: path)
        #expect(try disk.list(directory.path) == ["r.snapshot"])
        let file = try disk.open(path, .read)
        defer { file.close() }
        let reader = try SnapshotFileReader(file)
        var count = 0
        while let frame = try reader.next() {
            frame.forEachPair { _ in count += 1 }
        }
        #expect(count == 1000)
        #expect(reader.totals == footer)
        #expect(footer.records == 1001)

        do {
            _ = try write([], to: path)
            Issue.record("a snapshot was replaced")
        } catch let error as SnapshotError {
            #expect(error.code == .exists)
        }
        #expect(throws: SnapshotError.self) {
            _ = try write([], to: directory.path + "/nowhere/r.snapshot")
        }
    }

    @Test("a full disk leaves nothing, at whatever byte it is full")
    func fullDisk() throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let path = directory.path + "/r.snapshot"
        let pairs = Sample.pairs(200)
        let whole = try Sample.snapshot(pairs, frameBytes: 4096).count
        for bytes in [0, 100, 300, 5000, whole - 48, whole - 1] {
            do {
                _ = try write(pairs, to: path, SmallDisk(bytes: UInt64(bytes)))
                Issue.record("written to a disk of \(bytes) bytes")
            } catch let error as SnapshotError {
                #expect(error.code == .diskFull)
            }
            #expect(try POSIXFileSystem().list(directory.path).isEmpty)
        }
        _ = try write(pairs, to: path, SmallDisk(bytes: UInt64(whole)))
    }
}
