// Reading from a file straight into shared memory.

extension Bytes {
    /// A chunk of `count` bytes that `fill` writes; it returns how many of them, from the start on,
    /// it wrote, and only those are the result.
    public init<E: Error>(
        count: Int, filling fill: (UnsafeMutableRawBufferPointer) throws(E) -> Int
    ) throws(E) {
        invariant(count >= 0 && count <= Int(UInt32.max), "\(count) bytes in one chunk")
        guard count > 0 else {
            self.init()
            return
        }
        let chunk = ByteChunk(capacity: count)
        let written = try fill(UnsafeMutableRawBufferPointer(start: chunk.base, count: count))
        invariant(written >= 0 && written <= count, "\(written) of \(count) bytes were written")
        self.init(chunk: written > 0 ? chunk : nil, offset: 0, length: UInt32(written))
    }
}
