// Immutable shared bytes: what an entry's payload is from the client's hand to the last replica.
//
//   ByteChunk   one heap block, written once from its start, then only read
//   Bytes       a slice of a chunk; copying it is one retain, slicing it copies nothing
//
// A received frame is one chunk and the entries in it are slices; entries packed by a lane share
// the lane's arena chunks. So no allocation is proportional to entries. A slice keeps its whole
// chunk alive: caches count chunks that way.

/// One heap block behind any number of ``Bytes`` slices.
///
/// Safety: bytes below the highest published slice end are never written again; writers append
/// past it, on one thread, before publishing. Readers on any thread see only published slices.
public final class ByteChunk: @unchecked Sendable {
    @usableFromInline let base: UnsafeMutableRawPointer
    /// Bytes the block can hold.
    public let capacity: Int

    @inlinable
    init(base: UnsafeMutableRawPointer, capacity: Int) {
        self.base = base
        self.capacity = capacity
    }

    /// A block of `capacity` bytes whose contents are not yet defined.
    @inlinable
    public convenience init(capacity: Int) {
        let size = max(capacity, 1)
        self.init(
            base: UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 16), capacity: size)
    }

    deinit { base.deallocate() }
}

/// An immutable slice of shared memory. Copies share; equality and hashing are by content.
public struct Bytes: Sendable {
    @usableFromInline let chunk: ByteChunk?
    @usableFromInline let offset: UInt32
    @usableFromInline let length: UInt32

    @inlinable
    init(chunk: ByteChunk?, offset: UInt32, length: UInt32) {
        self.chunk = chunk
        self.offset = offset
        self.length = length
    }

    /// No bytes, no allocation.
    @inlinable public init() { self.init(chunk: nil, offset: 0, length: 0) }

    /// A copy of `source` in a chunk of its own.
    @inlinable
    public init(copying source: UnsafeRawBufferPointer) {
        invariant(source.count <= Int(UInt32.max), "\(source.count) bytes do not fit in one chunk")
        guard let start = source.baseAddress, !source.isEmpty else {
            self.init()
            return
        }
        let chunk = ByteChunk(capacity: source.count)
        chunk.base.copyMemory(from: start, byteCount: source.count)
        self.init(chunk: chunk, offset: 0, length: UInt32(source.count))
    }

    /// A copy of `source`.
    @inlinable
    public init(_ source: [UInt8]) {
        self = source.withUnsafeBytes { Bytes(copying: $0) }
    }

    /// A copy of the text's UTF-8.
    @inlinable
    public init(_ text: String) {
        var text = text
        self = text.withUTF8 { Bytes(copying: UnsafeRawBufferPointer($0)) }
    }

    /// How many bytes.
    @inlinable public var count: Int { Int(length) }
    @inlinable public var isEmpty: Bool { length == 0 }

    /// Runs `body` on the bytes; the pointer is not valid after it returns.
    @inlinable
    public func withUnsafeBytes<R, E: Error>(
        _ body: (UnsafeRawBufferPointer) throws(E) -> R
    ) throws(E) -> R {
        guard let chunk else { return try body(UnsafeRawBufferPointer(start: nil, count: 0)) }
        // Safety: `chunk` is held for the duration of the call, and the slice lies inside it.
        let result = try body(
            UnsafeRawBufferPointer(start: chunk.base + Int(offset), count: Int(length)))
        withExtendedLifetime(chunk) {}
        return result
    }

    /// The bytes of `range`, counted from this slice's start; traps when it is not inside.
    @inlinable
    public subscript(range: Range<Int>) -> Bytes {
        invariant(
            range.lowerBound >= 0 && range.upperBound <= count,
            "range \(range) of \(count) bytes")
        return Bytes(
            chunk: range.isEmpty ? nil : chunk, offset: offset + UInt32(range.lowerBound),
            length: UInt32(range.count))
    }

    /// The byte at `position`; traps when it is not inside.
    @inlinable
    public subscript(position: Int) -> UInt8 {
        invariant(position >= 0 && position < count, "byte \(position) of \(count)")
        return withUnsafeBytes { $0[position] }
    }

    /// A copy as an array.
    public var array: [UInt8] { withUnsafeBytes { [UInt8]($0) } }
}

extension Bytes: Hashable {
    @inlinable
    public static func == (a: Bytes, b: Bytes) -> Bool {
        a.length == b.length && Bytes.compare(a, b) == 0
    }

    public func hash(into hasher: inout Hasher) {
        withUnsafeBytes { hasher.combine(bytes: $0) }
    }
}

extension Bytes: Comparable {
    /// Negative, zero or positive as `a` sorts before, with or after `b`: unsigned bytes, then length.
    @inlinable
    public static func compare(_ a: Bytes, _ b: Bytes) -> Int {
        a.withUnsafeBytes { x in b.withUnsafeBytes { y in compareBytes(x, y) } }
    }

    /// Key order: unsigned bytes, then length.
    @inlinable
    public static func < (a: Bytes, b: Bytes) -> Bool { compare(a, b) < 0 }
}

extension Bytes: CustomStringConvertible {
    /// Length only: payloads never appear in logs or errors.
    public var description: String { "\(count) bytes" }
}

extension Bytes: ExpressibleByStringLiteral, ExpressibleByArrayLiteral {
    public init(stringLiteral value: String) { self.init(value) }
    public init(arrayLiteral elements: UInt8...) { self.init(elements) }
}
