// A disk in memory that forgets what was not made durable.
//
//   visible   what the process reads: every write at once
//   durable   what a crash certainly leaves
//   pending   writes, sizes and names in between: each sector, of 512 or 4096 bytes, and each name
//             survives a crash or not, on its own, in any combination; a sector may also become
//             zeros or junk
//
// A write may also be submitted and completed later, so that several are in flight and end in any
// order; until it is completed it is pending like any other.

package import UkehiEnvironment

/// What is about to be done to the simulated disk.
package struct SimulatedOperation: Sendable, Hashable {
    package enum Kind: Sendable, Hashable, CaseIterable {
        /// `create` opens a file that was not there.
        case open, create, read, write, writeDurably, sync, truncate, allocate
        case rename, remove, syncDirectory, list
    }
    package var kind: Kind
    package var path: String
    /// Counted from 1, over all operations that change something or make it durable.
    package var ordinal: Int
    /// What an allocation asks for; 0 otherwise.
    package var byteCount = 0
}

/// Thread-safe; deterministic when used by one thread.
package final class SimulatedFileSystem: FileSystem {
    package typealias Hook = @Sendable (SimulatedOperation) throws(FileError) -> Void

    struct Pending {
        enum Change {
            case write(offset: Int, bytes: [UInt8])
            case size(Int)
        }
        var id: Int
        var change: Change
    }

    struct Node {
        var durable: [UInt8] = []
        var visible: [UInt8] = []
        var pending: [Pending] = []
    }

    enum NameChange {
        case bind(String, Int)
        case move(String, String, Int)
        case unbind(String)
    }

    struct Disk {
        var nodes: [Int: Node] = [:]
        var names: [String: Int] = [:]
        var durableNames: [String: Int] = [:]
        var pendingNames: [NameChange] = []
        /// Names that may be others on the disk than in `names`: only these have to be looked at.
        var unsyncedNames: Set<String> = []
        var directories: Set<String> = []
        /// Those whose own name a power cut leaves.
        var durableDirectories: Set<String> = []
        var locks: Set<String> = []
        var nextID = 1
        var operations = 0
        var hook: Hook?
        var isAllocationSupported = true
        /// A write that a power cut interrupts is torn at multiples of this.
        var tearBytes = 512
        var lies: Set<SimulatedOperation.Kind> = []
        /// Of a write that fails, the first half reaches the file.
        var failsHalfway = false
        /// What all files together may have; nil: no bound.
        var volumeBytes: Int?

        var usedBytes: Int {
            names.values.reduce(0) { $0 + (nodes[$1]?.visible.count ?? 0) }
        }
    }

    let disk: Guarded<Disk>

    package init() { disk = Guarded(Disk()) }

    private init(_ disk: Disk) { self.disk = Guarded(disk) }

    /// Called before each operation; what it throws is the operation's result.
    package func setHook(_ hook: Hook?) { disk.withLock { $0.hook = hook } }

    /// Changing operations so far.
    package var operations: Int { disk.withLock { $0.operations } }

    package var isAllocationSupported: Bool { disk.withLock { $0.isAllocationSupported } }

    package func setAllocationSupported(_ isSupported: Bool) {
        disk.withLock { $0.isAllocationSupported = isSupported }
    }

    /// 512 as the oldest disks, 4096 as most of today's.
    package func setTearBytes(_ count: Int) { disk.withLock { $0.tearBytes = count } }

    /// From now on these operations say that they succeeded and make nothing durable.
    package func setLies(_ kinds: Set<SimulatedOperation.Kind>) {
        disk.withLock { $0.lies = kinds }
    }

    /// From now on a write that the hook lets fail has written its first half.
    package func setFailsHalfway(_ isHalf: Bool) {
        disk.withLock { $0.failsHalfway = isHalf }
    }

    /// From now on no file becomes longer where all together would have more than this.
    package func setVolume(byteCount: Int?) { disk.withLock { $0.volumeBytes = byteCount } }

    package func freeBytes(_ directory: String) -> UInt64 {
        disk.withLock { disk in
            disk.volumeBytes.map { UInt64(max($0 - disk.usedBytes, 0)) } ?? .max
        }
    }

    package var volumeBytes: Int? { disk.withLock { $0.volumeBytes } }

    /// Bytes of all files.
    package var usedBytes: Int { disk.withLock { $0.usedBytes } }

    func announce(
        _ kind: SimulatedOperation.Kind, _ path: String, byteCount: Int = 0
    ) throws(FileError) {
        let (hook, ordinal) = disk.withLock { disk in
            if ![.open, .read, .list].contains(kind) { disk.operations += 1 }
            return (disk.hook, disk.operations)
        }
        try hook?(
            SimulatedOperation(kind: kind, path: path, ordinal: ordinal, byteCount: byteCount))
    }

    // MARK: FileSystem

    package func open(_ path: String, _ mode: OpenMode) throws(FileError) -> any File {
        try announce(mode == .createNew ? .create : .open, path)
        let id: Int? = disk.withLock { disk in
            if let id = disk.names[path] { return mode == .createNew ? nil : id }
            guard mode == .createNew else { return nil }
            let id = disk.nextID
            disk.nextID += 1
            disk.nodes[id] = Node()
            disk.names[path] = id
            disk.note(.bind(path, id))
            return id
        }
        guard let id else {
            throw FileError(
                kind: mode == .createNew ? .alreadyExists : .notFound, operation: "open", path: path
            )
        }
        return SimulatedFile(self, id, path)
    }

    package func rename(_ source: String, to target: String) throws(FileError) {
        try announce(.rename, source)
        let isThere = disk.withLock { disk in
            guard let id = disk.names.removeValue(forKey: source) else { return false }
            disk.names[target] = id
            disk.note(.move(source, target, id))
            return true
        }
        guard isThere else {
            throw FileError(kind: .notFound, operation: "rename", path: source)
        }
    }

    package func remove(_ path: String) throws(FileError) {
        try announce(.remove, path)
        let isThere = disk.withLock { disk in
            guard disk.names.removeValue(forKey: path) != nil else { return false }
            disk.note(.unbind(path))
            return true
        }
        guard isThere else { throw FileError(kind: .notFound, operation: "unlink", path: path) }
    }

    package func createDirectory(_ path: String) throws(FileError) {
        disk.withLock { _ = $0.directories.insert(path) }
    }

    package func list(_ directory: String) throws(FileError) -> [String] {
        try announce(.list, directory)
        return disk.withLock { disk in
            disk.names.keys.filter { $0.hasPrefix(directory + "/") }
                .map { String($0.dropFirst(directory.count + 1)) }
                .filter { !$0.contains("/") }.sorted()
        }
    }

    package func syncDirectory(_ path: String) throws(FileError) {
        try announce(.syncDirectory, path)
        disk.withLock { disk in
            guard !disk.lies.contains(.syncDirectory) else { return }
            disk.makeDurable(in: path)
        }
    }

    package func exists(_ path: String) -> Bool {
        disk.withLock { $0.names[path] != nil || $0.directories.contains(path) }
    }

    package func lock(_ path: String) throws(FileError) -> any FileLock {
        let isTaken = disk.withLock { !$0.locks.insert(path).inserted }
        if isTaken { throw FileError(kind: .locked, operation: "flock", path: path) }
        return SimulatedLock(self, path)
    }

    // MARK: Looking and damaging

    /// What a reader of the file sees.
    package func contents(_ path: String) -> [UInt8]? {
        disk.withLock { disk in disk.names[path].flatMap { disk.nodes[$0]?.visible } }
    }

    /// Makes `bytes` the file's durable contents.
    package func replace(_ path: String, with bytes: [UInt8]) {
        disk.withLock { disk in
            let id = disk.names[path] ?? disk.nextID
            disk.nextID = max(disk.nextID, id + 1)
            disk.nodes[id] = Node(durable: bytes, visible: bytes)
            disk.names[path] = id
            disk.durableNames[path] = id
        }
    }

    /// Changes bytes of a file behind everybody's back, on the disk and in what is read from it. What is
    /// written there later replaces them, as on any disk.
    package func damage(_ path: String, at offset: Int, with bytes: [UInt8]) {
        disk.withLock { disk in
            guard let id = disk.names[path], var node = disk.nodes.removeValue(forKey: id) else {
                return
            }
            bytes.withUnsafeBytes { raw in
                if offset + raw.count <= node.visible.count {
                    node.visible.overwrite(at: offset, with: raw)
                }
                if offset + raw.count <= node.durable.count {
                    node.durable.overwrite(at: offset, with: raw)
                }
            }
            disk.nodes[id] = node
        }
    }

    /// A disk of its own with what is visible now, all of it durable.
    package func copy() -> SimulatedFileSystem {
        let copy = disk.withLock { disk in
            var copy = Disk()
            copy.names = disk.names
            copy.durableNames = disk.names
            copy.directories = disk.directories
            copy.durableDirectories = disk.directories
            copy.nextID = disk.nextID
            copy.isAllocationSupported = disk.isAllocationSupported
            copy.tearBytes = disk.tearBytes
            copy.volumeBytes = disk.volumeBytes
            for id in disk.names.values {
                guard let node = disk.nodes[id] else { continue }
                copy.nodes[id] = Node(durable: node.visible, visible: node.visible)
            }
            return copy
        }
        return SimulatedFileSystem(copy)
    }

    /// What the process's end leaves: everything visible, what is pending still pending, no locks.
    package func processEnded() {
        disk.withLock { $0.locks = [] }
    }

    /// What a power cut now may leave, as a disk of its own.
    package func crashed(using random: inout SeededRandom) -> SimulatedFileSystem {
        let crashed = disk.withLock { disk in
            var next = Disk()
            next.directories = disk.directoriesAfterCrash(&random)
            next.durableDirectories = next.directories
            next.nextID = disk.nextID
            next.isAllocationSupported = disk.isAllocationSupported
            next.volumeBytes = disk.volumeBytes
            next.tearBytes = disk.tearBytes
            next.lies = disk.lies
            next.failsHalfway = disk.failsHalfway
            next.names = disk.namesAfterCrash(&random).filter { name, _ in
                // What is in a directory goes with it.
                disk.directories.subtracting(next.directories).allSatisfy {
                    !name.hasPrefix($0 + "/")
                }
            }
            next.durableNames = next.names
            for id in Set(next.names.values).sorted() {
                guard let node = disk.nodes[id] else { continue }
                let left = node.afterCrash(&random, tearBytes: disk.tearBytes)
                next.nodes[id] = Node(durable: left, visible: left)
            }
            return next
        }
        return SimulatedFileSystem(crashed)
    }
}

extension [UInt8] {
    // Spelled as block copies: debug builds run these for megabytes.

    mutating func grow(to count: Int) {
        guard self.count < count else { return }
        append(contentsOf: [UInt8](repeating: 0, count: count - self.count))
    }

    mutating func overwrite(at offset: Int, with bytes: UnsafeRawBufferPointer) {
        withUnsafeMutableBytes { target in
            UnsafeMutableRawBufferPointer(rebasing: target[offset..<offset + bytes.count])
                .copyMemory(from: bytes)
        }
    }
}

private final class SimulatedLock: FileLock {
    private let fileSystem: SimulatedFileSystem
    private let path: String

    init(_ fileSystem: SimulatedFileSystem, _ path: String) {
        self.fileSystem = fileSystem
        self.path = path
    }

    func release() { fileSystem.disk.withLock { _ = $0.locks.remove(path) } }
}
