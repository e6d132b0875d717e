// Encoding: little-endian integers and raw bytes appended to a growing block.
//
// A writer doubles as an arena: `take()` publishes what was appended since the last take as a slice
// of the current chunk and goes on behind it, so that many small payloads share one allocation.

/// Appends bytes and takes them out as ``Bytes`` slices. Used by one thread at a time.
///
/// Amortised O(1) per appended byte; one allocation per `chunkCapacity` bytes taken.
public struct ByteWriter: ~Copyable {
    @usableFromInline var chunk: ByteChunk
    @usableFromInline var start: Int  // Of what was not taken yet.
    @usableFromInline var end: Int
    @usableFromInline let chunkCapacity: Int

    /// A writer whose chunks hold at least `chunkCapacity` bytes.
    @inlinable
    public init(chunkCapacity: Int = 4096) {
        self.chunkCapacity = chunkCapacity
        chunk = ByteChunk(capacity: chunkCapacity)
        start = 0
        end = 0
    }

    /// Bytes appended since the last ``take()``.
    @inlinable public var count: Int { end - start }

    /// Makes room for `byteCount` more bytes; what was not taken yet may move to a new chunk.
    @inlinable
    public mutating func reserve(_ byteCount: Int) {
        if chunk.capacity - end < byteCount { grow(byteCount) }
    }

    @usableFromInline
    mutating func grow(_ byteCount: Int) {
        let pending = end - start
        let wanted = max(chunkCapacity, (pending + byteCount) * 2)
        invariant(pending + byteCount <= Int(UInt32.max) / 2, "a writer of over 2 GiB")
        let larger = ByteChunk(capacity: wanted)
        larger.base.copyMemory(from: chunk.base + start, byteCount: pending)
        chunk = larger
        start = 0
        end = pending
    }

    /// Takes what was appended since the last take; empty if nothing was.
    @inlinable
    public mutating func take() -> Bytes {
        guard end > start else { return Bytes() }
        let taken = Bytes(chunk: chunk, offset: UInt32(start), length: UInt32(end - start))
        start = end
        return taken
    }

    /// Forgets what was not taken.
    @inlinable public mutating func discard() { end = start }

    /// Forgets what was appended past `count` untaken bytes.
    @inlinable
    public mutating func truncate(to count: Int) {
        invariant(count >= 0 && count <= self.count, "truncate to \(count) of \(self.count)")
        end = start + count
    }

    /// The bytes not taken yet; the pointer is not valid after `body` returns.
    @inlinable
    public func withUnsafeBytes<R>(_ body: (UnsafeRawBufferPointer) throws -> R) rethrows -> R {
        try body(UnsafeRawBufferPointer(start: chunk.base + start, count: end - start))
    }

    /// Appends `byteCount` bytes that `fill` writes, all of them.
    @inlinable
    public mutating func append(
        _ byteCount: Int, filling fill: (UnsafeMutableRawPointer) -> Void
    ) {
        reserve(byteCount)
        fill(chunk.base + end)
        end += byteCount
    }

    /// Appends an integer, little-endian.
    @inlinable
    public mutating func append<T: FixedWidthInteger>(_ value: T) {
        let size = MemoryLayout<T>.size
        reserve(size)
        (chunk.base + end).storeBytes(of: value.littleEndian, as: T.self)
        end += size
    }

    /// Overwrites an integer `at` bytes into what was not taken yet (a length known only later).
    @inlinable
    public mutating func overwrite<T: FixedWidthInteger>(_ value: T, at position: Int) {
        invariant(
            position >= 0 && position + MemoryLayout<T>.size <= count,
            "overwrite at \(position) of \(count)")
        (chunk.base + start + position).storeBytes(of: value.littleEndian, as: T.self)
    }

    /// Appends raw bytes.
    @inlinable
    public mutating func append(_ bytes: UnsafeRawBufferPointer) {
        guard let source = bytes.baseAddress, !bytes.isEmpty else { return }
        reserve(bytes.count)
        (chunk.base + end).copyMemory(from: source, byteCount: bytes.count)
        end += bytes.count
    }

    /// Appends raw bytes.
    @inlinable
    public mutating func append(_ bytes: Bytes) {
        bytes.withUnsafeBytes { append($0) }
    }

    /// Appends a length (u32) and the bytes.
    @inlinable
    public mutating func appendLengthPrefixed(_ bytes: Bytes) {
        append(UInt32(bytes.count))
        append(bytes)
    }

    /// Appends zeros.
    @inlinable
    public mutating func appendZeros(_ byteCount: Int) {
        guard byteCount > 0 else { return }
        reserve(byteCount)
        (chunk.base + end).initializeMemory(as: UInt8.self, repeating: 0, count: byteCount)
        end += byteCount
    }
}
