// One open file: positioned reads and writes, each complete or an error.
//
// A durable write is one call, pwritev2 with RWF_DSYNC, which syncs what it wrote and no more; where
// the kernel or file system does not know it, a write and an fdatasync. Blocks aligned in memory and
// file bypass the page cache (O_DIRECT): a log is written once and hardly ever read back, and copying
// it into the cache cost more than all that the engine does with it (docs/decisions). The calls that
// the system's headers hide behind GNU extensions are looked up by name, once.

import Synchronization
import UkehiEnvironment

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

final class POSIXFile: File {
    private let descriptor: OwnedDescriptor
    private let path: String
    private let direct = Mutex(DirectDescriptor.unopened)

    init(descriptor: Int32, path: String) {
        self.descriptor = OwnedDescriptor(descriptor)
        self.path = path
    }

    func read(
        into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64
    ) throws(FileError) -> Int {
        guard let base = buffer.baseAddress else { return 0 }
        var done = 0
        while done < buffer.count {
            let got = retrying {
                pread(
                    descriptor.value, base + done, buffer.count - done, off_t(offset) + off_t(done))
            }
            guard got >= 0 else { throw FileError.last("pread", path) }
            if got == 0 { break }
            done += got
        }
        return done
    }

    func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(FileError) {
        guard let base = bytes.baseAddress else { return }
        var done = 0
        while done < bytes.count {
            let put = retrying {
                pwrite(
                    descriptor.value, base + done, bytes.count - done, off_t(offset) + off_t(done))
            }
            guard put >= 0 else { throw FileError.last("pwrite", path) }
            // A regular file takes at least a byte or says why not.
            guard put > 0 else {
                throw FileError(kind: .ioFailed, operation: "pwrite", path: path)
            }
            done += put
        }
    }

    func writeDurably(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(FileError) {
        guard let base = bytes.baseAddress else { return }
        if Self.isAligned(bytes, offset), let written = try writeDirectly(bytes, at: offset) {
            guard written < bytes.count else { return }
            let rest = UnsafeRawBufferPointer(rebasing: bytes[written...])
            return try writeThroughCache(rest, at: offset + UInt64(written))
        }
        try writeThroughCache(UnsafeRawBufferPointer(start: base, count: bytes.count), at: offset)
    }

    private static let blockBytes = 4096

    private static func isAligned(_ bytes: UnsafeRawBufferPointer, _ offset: UInt64) -> Bool {
        UInt(bitPattern: bytes.baseAddress) % UInt(blockBytes) == 0
            && bytes.count % blockBytes == 0 && offset % UInt64(blockBytes) == 0
    }

    /// Writes past the page cache and returns how much is durable; nil where that is not possible.
    private func writeDirectly(
        _ bytes: UnsafeRawBufferPointer, at offset: UInt64
    ) throws(FileError) -> Int? {
        guard let base = bytes.baseAddress, let target = directDescriptor() else { return nil }
        var done = 0
        while done < bytes.count {
            let put = retrying {
                pwrite(target.value, base + done, bytes.count - done, off_t(offset) + off_t(done))
            }
            if put < 0, errno == EINVAL || errno == EOPNOTSUPP {
                // The device wants larger blocks than ours: never asked again for this file.
                direct.withLock { $0 = .impossible }
                return done
            }
            guard put >= 0 else { throw FileError.last("pwrite", path) }
            guard put > 0 else {
                throw FileError(kind: .ioFailed, operation: "pwrite", path: path)
            }
            done += put
            // What is left of a short write is no longer aligned, perhaps.
            if done % Self.blockBytes != 0 { break }
        }
        return done
    }

    private func directDescriptor() -> OwnedDescriptor? {
        direct.withLock { state in
            switch state {
            case .open(let descriptor): return descriptor
            case .impossible: return nil
            case .unopened:
                let flags = O_WRONLY | SystemCalls.directFlag | O_DSYNC | O_CLOEXEC
                // By the descriptor, not the path: the file may have been renamed since.
                let opened = retrying { open("/proc/self/fd/\(descriptor.value)", flags) }
                guard opened >= 0 else {
                    state = .impossible
                    return nil
                }
                let owned = OwnedDescriptor(opened)
                state = .open(owned)
                return owned
            }
        }
    }

    private func writeThroughCache(
        _ bytes: UnsafeRawBufferPointer, at offset: UInt64
    ) throws(FileError) {
        guard let base = bytes.baseAddress else { return }
        guard let pwritev2 = SystemCalls.pwritev2, SystemCalls.knowsDurableWrites else {
            try write(bytes, at: offset)
            return try sync()
        }
        var done = 0
        while done < bytes.count {
            var vector = iovec(
                iov_base: UnsafeMutableRawPointer(mutating: base + done),
                iov_len: bytes.count - done)
            let put = retrying {
                pwritev2(
                    descriptor.value, &vector, 1, off_t(offset) + off_t(done),
                    SystemCalls.durableWriteFlag)
            }
            if put < 0, errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL {
                SystemCalls.durableWritesAreUnknown()
                try write(
                    UnsafeRawBufferPointer(start: base + done, count: bytes.count - done),
                    at: offset + UInt64(done))
                return try sync()
            }
            guard put >= 0 else { throw FileError.last("pwritev2", path) }
            guard put > 0 else {
                throw FileError(kind: .ioFailed, operation: "pwritev2", path: path)
            }
            done += put
        }
    }

    func sync() throws(FileError) {
        // Not repeated when it fails: the kernel may have dropped what it could not write.
        guard fdatasync(descriptor.value) == 0 else {
            var error = FileError.last("fdatasync", path)
            // For whatever reason: a full volume, too, has then lost what the cache held.
            error.kind = .ioFailed
            throw error
        }
    }

    func beginWriteBack(_ range: Range<UInt64>) {
        // What cannot be written is told by the sync that follows.
        _ = SystemCalls.syncFileRange?(
            descriptor.value, off_t(range.lowerBound), off_t(range.count),
            SystemCalls.beginWriteBackFlag)
    }

    func truncate(to byteCount: UInt64) throws(FileError) {
        guard retrying({ ftruncate(descriptor.value, off_t(byteCount)) }) == 0 else {
            throw FileError.last("ftruncate", path)
        }
    }

    func allocate(byteCount: UInt64) throws(FileError) {
        guard let fallocate = SystemCalls.fallocate else {
            throw FileError(kind: .unsupported, operation: "fallocate", path: path)
        }
        guard retrying({ fallocate(descriptor.value, 0, 0, off_t(byteCount)) }) == 0 else {
            throw FileError.last("fallocate", path)
        }
    }

    func size() throws(FileError) -> UInt64 {
        var status = stat()
        guard fstat(descriptor.value, &status) == 0 else { throw FileError.last("fstat", path) }
        return UInt64(status.st_size)
    }

    func close() {
        descriptor.close()
        direct.withLock { state in
            if case .open(let descriptor) = state { descriptor.close() }
            state = .impossible
        }
    }
}

/// A second descriptor of the same file, for writes past the page cache.
private enum DirectDescriptor {
    case unopened
    case open(OwnedDescriptor)
    /// The file system refuses it.
    case impossible
}

/// A descriptor that is closed once: by ``close()`` or with its owner.
final class OwnedDescriptor: Sendable {
    let value: Int32
    private let isOpen = Atomic<Bool>(true)

    init(_ value: Int32) { self.value = value }

    deinit { close() }

    func close() {
        if isOpen.exchange(false, ordering: .acquiringAndReleasing) { closeDescriptor(value) }
    }
}

private func closeDescriptor(_ descriptor: Int32) { close(descriptor) }

/// Calls that are looked up by name.
private enum SystemCalls {
    typealias PwriteV2 =
        @convention(c) (Int32, UnsafePointer<iovec>?, Int32, off_t, Int32) -> Int
    typealias Fallocate = @convention(c) (Int32, Int32, off_t, off_t) -> Int32

    typealias SyncFileRange = @convention(c) (Int32, off_t, off_t, UInt32) -> Int32

    static let pwritev2: PwriteV2? = find("pwritev2")
    static let fallocate: Fallocate? = find("fallocate")
    static let syncFileRange: SyncFileRange? = find("sync_file_range")
    static let beginWriteBackFlag: UInt32 = 2  // SYNC_FILE_RANGE_WRITE
    static let durableWriteFlag: Int32 = 2  // RWF_DSYNC
    #if arch(arm64)
        static let directFlag: Int32 = 0o200000  // O_DIRECT
    #else
        static let directFlag: Int32 = 0o40000  // O_DIRECT
    #endif

    private static let isKnown = Atomic<Bool>(true)
    static var knowsDurableWrites: Bool { isKnown.load(ordering: .relaxed) }
    static func durableWritesAreUnknown() { isKnown.store(false, ordering: .relaxed) }

    private static func find<F>(_ name: String) -> F? {
        guard let address = dlsym(nil, name) else { return nil }
        // Safety: the symbol is the C library's function of that name, whose type is F.
        return unsafeBitCast(address, to: F.self)
    }
}
