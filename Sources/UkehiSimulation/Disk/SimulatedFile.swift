// One open file of the simulated disk.

package import UkehiEnvironment

/// A write that was submitted and is not durable yet.
package struct SubmittedWrite: Hashable, Sendable {
    var id: Int
}

package final class SimulatedFile: File {
    private let fileSystem: SimulatedFileSystem
    private let id: Int
    private let path: String

    init(_ fileSystem: SimulatedFileSystem, _ id: Int, _ path: String) {
        self.fileSystem = fileSystem
        self.id = id
        self.path = path
    }

    private func change<R>(_ body: (inout SimulatedFileSystem.Node, Int) -> R) -> R {
        fileSystem.disk.withLock { disk in
            let change = disk.nextID
            disk.nextID += 1
            return body(&disk.nodes[id, default: SimulatedFileSystem.Node()], change)
        }
    }

    /// Begins a write: visible at once, pending until ``complete(_:)``.
    package func submit(
        _ bytes: UnsafeRawBufferPointer, at offset: UInt64
    ) throws(FileError) -> SubmittedWrite {
        do throws(FileError) {
            try fileSystem.announce(.write, path)
        } catch {
            if fileSystem.disk.withLock({ $0.failsHalfway }) {
                _ = put(UnsafeRawBufferPointer(rebasing: bytes[..<(bytes.count / 2)]), at: offset)
            }
            throw error
        }
        try needRoom("write", until: Int(offset) + bytes.count)
        return put(bytes, at: offset)
    }

    private func put(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) -> SubmittedWrite {
        SubmittedWrite(
            id: change { node, change in
                node.write(bytes, at: Int(offset))
                node.pending.append(
                    .init(id: change, change: .write(offset: Int(offset), bytes: Array(bytes))))
                return change
            })
    }

    /// Ends a submitted write: durable from now on, with the size it needs.
    package func complete(_ write: SubmittedWrite) throws(FileError) {
        try fileSystem.announce(.writeDurably, path)
        guard !lies(.writeDurably) else { return }
        change { node, _ in node.complete(write.id) }
    }

    package func read(
        into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64
    ) throws(FileError) -> Int {
        try fileSystem.announce(.read, path)
        return change { node, _ in
            guard offset < UInt64(node.visible.count) else { return 0 }
            let count = min(buffer.count, node.visible.count - Int(offset))
            node.visible.withUnsafeBytes { bytes in
                buffer.copyMemory(
                    from: UnsafeRawBufferPointer(rebasing: bytes[Int(offset)..<Int(offset) + count])
                )
            }
            return count
        }
    }

    package func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(FileError) {
        _ = try submit(bytes, at: offset)
    }

    package func writeDurably(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(FileError)
    {
        let write = try submit(bytes, at: offset)
        try complete(write)
    }

    package func sync() throws(FileError) {
        try fileSystem.announce(.sync, path)
        guard !lies(.sync) else { return }
        change { node, _ in
            node.durable = node.visible
            node.pending = []
        }
    }

    package func truncate(to byteCount: UInt64) throws(FileError) {
        try fileSystem.announce(.truncate, path)
        resize(to: Int(byteCount))
    }

    package func allocate(byteCount: UInt64) throws(FileError) {
        try fileSystem.announce(.allocate, path, byteCount: Int(byteCount))
        guard fileSystem.disk.withLock({ $0.isAllocationSupported }) else {
            throw FileError(kind: .unsupported, operation: "fallocate", path: path)
        }
        try needRoom("fallocate", until: Int(byteCount))
        if change({ node, _ in node.visible.count < Int(byteCount) }) { resize(to: Int(byteCount)) }
    }

    /// Whether the volume has room for this file to be so long.
    private func needRoom(_ operation: String, until end: Int) throws(FileError) {
        let hasRoom = fileSystem.disk.withLock { disk in
            guard let volume = disk.volumeBytes else { return true }
            let growth = end - (disk.nodes[id]?.visible.count ?? 0)
            return growth <= 0 || disk.usedBytes + growth <= volume
        }
        guard hasRoom else {
            throw FileError(kind: .noSpace, operation: operation, path: path, errno: 28)
        }
    }

    private func lies(_ kind: SimulatedOperation.Kind) -> Bool {
        fileSystem.disk.withLock { $0.lies.contains(kind) }
    }

    private func resize(to count: Int) {
        change { node, change in
            if node.visible.count > count {
                node.visible.removeSubrange(count...)
            } else {
                node.visible.grow(to: count)
            }
            node.pending.append(.init(id: change, change: .size(count)))
        }
    }

    package func size() throws(FileError) -> UInt64 {
        change { node, _ in UInt64(node.visible.count) }
    }

    package func close() {}
}
