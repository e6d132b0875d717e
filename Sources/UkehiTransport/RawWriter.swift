// Encoding straight into memory whose size was computed first: a frame is written once, into the
// buffer that goes to the socket.

package import UkehiBase

/// Appends to a fixed block. Writing past its end is a fault of the size computation and stops the
/// process before any byte is out of place.
package struct RawWriter {
    private let block: UnsafeMutableRawBufferPointer
    /// Bytes written.
    package private(set) var count = 0

    package init(_ block: UnsafeMutableRawBufferPointer) { self.block = block }

    package mutating func put<T: FixedWidthInteger>(_ value: T) {
        block.storeBytes(
            of: value.littleEndian, toByteOffset: advance(MemoryLayout<T>.size), as: T.self)
    }

    package mutating func put(_ source: UnsafeRawBufferPointer) {
        guard !source.isEmpty else { return }
        let at = advance(source.count)
        UnsafeMutableRawBufferPointer(rebasing: block[at..<at + source.count])
            .copyMemory(from: source)
    }

    package mutating func put(_ bytes: Bytes) { bytes.withUnsafeBytes { put($0) } }

    package mutating func putLengthPrefixed(_ bytes: Bytes) {
        put(UInt32(bytes.count))
        put(bytes)
    }

    /// The entry's record, as it is in the log (UkehiBase, Entry).
    package mutating func put(_ entry: Entry) {
        let at = advance(entry.recordBytes)
        guard let base = block.baseAddress else { return }
        entry.encodeRecord(to: base + at)
    }

    private mutating func advance(_ size: Int) -> Int {
        let at = count
        invariant(at + size <= block.count, "\(at + size) bytes in a frame of \(block.count)")
        count = at + size
        return at
    }
}
