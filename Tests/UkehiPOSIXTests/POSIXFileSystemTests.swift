// The real disk does what the engine's file protocol says.

import Glibc
import Testing
import UkehiEnvironment
import UkehiPOSIX
import _UkehiTestSupport

@Suite("POSIX file system")
struct POSIXFileSystemTests {
    private func withDirectory(_ body: (POSIXFileSystem, String) throws -> Void) throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        try body(POSIXFileSystem(), directory.path)
    }

    private func kind(_ body: () throws -> Void) -> FileError.Kind? {
        do { try body() } catch { return (error as? FileError)?.kind }
        return nil
    }

    private func read(_ file: any File, _ count: Int, at offset: UInt64) throws -> [UInt8] {
        var bytes = [UInt8](repeating: 0xee, count: count)
        let got = try bytes.withUnsafeMutableBytes { try file.read(into: $0, at: offset) }
        return Array(bytes.prefix(got))
    }

    @Test("writes are read back, durable or not, and reads end with the file")
    func readAndWrite() throws {
        try withDirectory { fileSystem, directory in
            let file = try fileSystem.open(directory + "/a", .createNew)
            let bytes = (0..<10_000).map { UInt8(truncatingIfNeeded: $0) }
            try bytes.withUnsafeBytes { try file.write($0, at: 100) }
            try bytes.withUnsafeBytes { try file.writeDurably($0, at: 20_000) }
            try file.sync()
            #expect(try file.size() == 30_000)
            #expect(try read(file, 10_000, at: 100) == bytes)
            #expect(try read(file, 20_000, at: 20_000) == bytes)
            #expect(try read(file, 10, at: 40_000) == [])
            #expect(try read(file, 100, at: 0) == [UInt8](repeating: 0, count: 100))
            try file.truncate(to: 20_005)
            #expect(try read(file, 100, at: 20_000) == Array(bytes.prefix(5)))
            file.close()
            file.close()
        }
    }

    @Test("names: created once, renamed over, removed, listed in order")
    func names() throws {
        try withDirectory { fileSystem, directory in
            _ = try fileSystem.open(directory + "/b", .createNew)
            #expect(
                kind { _ = try fileSystem.open(directory + "/b", .createNew) } == .alreadyExists)
            #expect(kind { _ = try fileSystem.open(directory + "/c", .read) } == .notFound)
            let a = try fileSystem.open(directory + "/a", .createNew)
            try [UInt8]([7]).withUnsafeBytes { try a.write($0, at: 0) }
            #expect(try fileSystem.list(directory) == ["a", "b"])
            try fileSystem.rename(directory + "/a", to: directory + "/b")
            try fileSystem.syncDirectory(directory)
            #expect(try fileSystem.list(directory) == ["b"])
            #expect(try read(try fileSystem.open(directory + "/b", .read), 1, at: 0) == [7])
            try fileSystem.remove(directory + "/b")
            #expect(!fileSystem.exists(directory + "/b"))
            #expect(kind { try fileSystem.remove(directory + "/b") } == .notFound)
            try fileSystem.createDirectory(directory + "/sub")
            try fileSystem.createDirectory(directory + "/sub")
            #expect(fileSystem.exists(directory + "/sub"))
        }
    }

    @Test("a directory that another one has taken the place of is synced as what it is now")
    func replacedDirectory() throws {
        try withDirectory { fileSystem, directory in
            let path = directory + "/sub"
            try fileSystem.createDirectory(path)
            for _ in 0..<3 { try fileSystem.syncDirectory(path) }
            try fileSystem.rename(path, to: directory + "/old")
            #expect(kind { try fileSystem.syncDirectory(path) } == .notFound)
            try fileSystem.createDirectory(path)
            try fileSystem.syncDirectory(path)
            // More than are kept open, and each again.
            for number in 0..<40 {
                try fileSystem.createDirectory(directory + "/\(number % 20)")
                try fileSystem.syncDirectory(directory + "/\(number % 20)")
            }
        }
    }

    @Test("a symbolic link is not followed")
    func symbolicLink() throws {
        try withDirectory { fileSystem, directory in
            _ = try fileSystem.open(directory + "/target", .createNew)
            #expect(symlink(directory + "/target", directory + "/link") == 0)
            #expect(kind { _ = try fileSystem.open(directory + "/link", .readWrite) } == .denied)
        }
    }

    @Test("a lock has one holder until it is released")
    func locks() throws {
        try withDirectory { fileSystem, directory in
            let lock = try fileSystem.lock(directory + "/lock")
            #expect(kind { _ = try fileSystem.lock(directory + "/lock") } == .locked)
            lock.release()
            lock.release()
            let again = try fileSystem.lock(directory + "/lock")
            again.release()
        }
    }

    @Test("a released lock is free though a child that is being started still has its descriptor")
    func lockOutlivedByCopy() throws {
        try withDirectory { fileSystem, directory in
            let path = directory + "/lock"
            let lock = try fileSystem.lock(path)
            let held = try #require(
                (0..<Int32(4096)).first { descriptor in
                    var own = stat()
                    var named = stat()
                    return fstat(descriptor, &own) == 0 && stat(path, &named) == 0
                        && own.st_ino == named.st_ino && own.st_dev == named.st_dev
                })
            // What a fork leaves in the child until it runs its program.
            let copy = dup(held)
            #expect(copy >= 0)
            defer { close(copy) }
            lock.release()
            let again = try fileSystem.lock(path)
            again.release()
        }
    }

    @Test("allocation sets the size and keeps what is there")
    func allocation() throws {
        try withDirectory { fileSystem, directory in
            let file = try fileSystem.open(directory + "/a", .createNew)
            try [UInt8]([1, 2, 3]).withUnsafeBytes { try file.writeDurably($0, at: 0) }
            let failure = kind { try file.allocate(byteCount: 1 << 20) }
            guard failure != .unsupported else { return }
            #expect(failure == nil)
            #expect(try file.size() == 1 << 20)
            #expect(try read(file, 4, at: 0) == [1, 2, 3, 0])
        }
    }

    @Test(
        "what a volume has free is told without taking it; of one that cannot be asked nothing is known"
    )
    func freeBytes() throws {
        try withDirectory { fileSystem, directory in
            let free = fileSystem.freeBytes(directory)
            #expect(free > 0 && free < 1 << 60)
            #expect(fileSystem.freeBytes(directory + "/missing") == .max)
        }
    }

    @Test("the monotonic clock does not go back, and randomness differs")
    func clockAndRandomness() {
        let clock = SystemClock()
        let first = clock.now()
        #expect(clock.now() >= first)
        #expect(clock.wallNanoseconds() > 1_600_000_000_000_000_000)
        let random = SystemRandomSource()
        #expect(Set((0..<8).map { _ in random.next() }).count == 8)
    }
}
