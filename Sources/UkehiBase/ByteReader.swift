// Decoding with every bound checked: what a file, a peer or a client sent is never trusted.

/// Why bytes could not be decoded, and where.
public struct DecodeError: Error, Hashable, Sendable, CustomStringConvertible {
    /// What is wrong with them, without quoting them.
    public var reason: String
    /// Bytes from the start of what was being decoded.
    public var offset: Int

    public init(_ reason: String, offset: Int) {
        self.reason = reason
        self.offset = offset
    }
    public var description: String { "\(reason) at byte \(offset)" }
}

/// Reads little-endian integers and slices from ``Bytes``, front to back. Slices share the memory.
public struct ByteReader: Sendable {
    @usableFromInline let bytes: Bytes
    @usableFromInline var position: Int

    @inlinable
    public init(_ bytes: Bytes) {
        self.bytes = bytes
        position = 0
    }

    /// Bytes read so far.
    @inlinable public var offset: Int { position }

    /// Bytes left.
    @inlinable public var remaining: Int { bytes.count - position }

    /// The next integer.
    @inlinable
    public mutating func read<T: FixedWidthInteger>(_ type: T.Type = T.self) throws(DecodeError)
        -> T
    {
        let size = MemoryLayout<T>.size
        guard remaining >= size else { throw shortOf(size) }
        let at = position
        position += size
        return bytes.withUnsafeBytes {
            T(littleEndian: $0.loadUnaligned(fromByteOffset: at, as: T.self))
        }
    }

    /// The next `count` bytes, shared.
    @inlinable
    public mutating func readBytes(_ count: Int) throws(DecodeError) -> Bytes {
        guard count >= 0, remaining >= count else { throw shortOf(count) }
        let slice = bytes[position..<position + count]
        position += count
        return slice
    }

    /// A length (u32) and that many bytes, at most `limit`, shared.
    public mutating func readLengthPrefixed(limit: Int = Int(UInt32.max)) throws(DecodeError)
        -> Bytes
    {
        let length = Int(try read(UInt32.self))
        guard length <= limit else {
            throw DecodeError(
                "a length of \(length) is over the limit of \(limit)", offset: offset - 4)
        }
        return try readBytes(length)
    }

    /// Everything left, shared.
    public mutating func readRest() -> Bytes {
        let slice = bytes[position..<bytes.count]
        position = bytes.count
        return slice
    }

    /// Throws unless everything was read.
    public func expectEnd() throws(DecodeError) {
        guard remaining == 0 else {
            throw DecodeError("\(remaining) bytes too many", offset: offset)
        }
    }

    /// An error at the current place.
    public func failure(_ reason: String) -> DecodeError { DecodeError(reason, offset: offset) }

    @usableFromInline
    func shortOf(_ wanted: Int) -> DecodeError {
        DecodeError("\(wanted) bytes wanted, \(remaining) left", offset: offset)
    }
}
