// Writing: records are gathered into a frame, a full frame is compressed and handed on.
//
//   state, pairs ──▶ frame of about frameBytes ──zstd──▶ sink
//
// Memory: one frame before and one after compression. Where the bytes go is the sink's matter: a
// file, or a peer.

import UkehiBase

/// How a snapshot is written; readers need to know nothing of it.
package struct SnapshotOptions: Sendable {
    /// A frame ends before the record that would make it larger, unless that is its only one. Small
    /// ones resume more closely, large ones compress better.
    package var frameBytes = 1 << 20
    /// zstd's level, 1 to 19. Above the first, what is saved costs more than a disk or a network
    /// takes for it, and values that are sealed or compressed already cost several times as much.
    package var compressionLevel = 1

    package init() {}
}

/// Makes the bytes of one snapshot: the same for the same state, header, options and version of zstd.
package final class SnapshotEncoder {
    /// Takes the bytes in order; the pointer is valid only during the call.
    package typealias Sink = (UnsafeRawBufferPointer) throws(SnapshotError) -> Void

    private let frameBytes: Int
    private let headerChecksum: UInt32
    private let compressor: ZstdCompressor
    private let sink: Sink
    private var order: SnapshotOrder
    private var raw: ByteWriter
    private var records = 0
    private var offset: UInt64 = 0
    private var totals: SnapshotFooter
    private var isFinished = false
    /// Told after each frame: bytes of records so far, before compression.
    package var onFrame: (_ rawBytes: UInt64) -> Void = { _ in }

    /// Writes the header and the region's state.
    package init(
        _ header: SnapshotHeader, state: RegionState, options: SnapshotOptions = SnapshotOptions(),
        sink: @escaping Sink
    ) throws(SnapshotError) {
        invariant(
            options.frameBytes > 0 && options.frameBytes <= SnapshotLimits.maxFrameBytes
                && (1...19).contains(options.compressionLevel),
            "a snapshot's frames of \(options.frameBytes) bytes, level \(options.compressionLevel)")
        guard header.agrees(with: state) else {
            throw .refused("the region's state is not that of the header's index and epoch")
        }
        let (bytes, checksum) = try header.encoded()
        frameBytes = options.frameBytes
        headerChecksum = checksum
        compressor = ZstdCompressor(level: options.compressionLevel)
        self.sink = sink
        order = SnapshotOrder(header.keyRange, revision: state.revision)
        raw = ByteWriter(chunkCapacity: options.frameBytes + 4096)
        totals = SnapshotFooter(header: checksum)
        SnapshotRecord.append(state, to: &raw)
        records = 1
        try emit(bytes)
    }

    /// Adds a pair; in key order.
    package func append(_ entry: StoredEntry) throws(SnapshotError) {
        if let fault = order.fault(of: entry) { throw .refused("\(fault)") }
        if raw.count + SnapshotRecord.byteCount(entry) > frameBytes, records > 0 { try endFrame() }
        SnapshotRecord.append(entry, to: &raw)
        records += 1
    }

    /// Writes what is left and the footer; no call may follow.
    package func finish() throws(SnapshotError) -> SnapshotFooter {
        invariant(!isFinished, "a snapshot is finished once")
        isFinished = true
        if records > 0 { try endFrame() }
        try emit(totals.encoded(header: headerChecksum))
        return totals
    }

    private func endFrame() throws(SnapshotError) {
        let compressor = compressor
        let stored = raw.withUnsafeBytes { compressor.compress($0) }
        let number = totals.frames
        var info = SnapshotFrameInfo(
            number: number, offset: offset, rawBytes: raw.count, storedBytes: stored.count,
            records: records, checksum: 0,
            storedChecksum: CRC32C.checksum(
                stored, seed: SnapshotFormat.seed(of: number, header: headerChecksum)))
        var header = ByteWriter(chunkCapacity: SnapshotFormat.frameHeaderBytes)
        info.encode(into: &header, header: headerChecksum)
        totals.add(info)
        try emit(header.take())
        try emit(stored)
        raw.discard()
        records = 0
        onFrame(totals.rawBytes)
    }

    private func emit(_ bytes: Bytes) throws(SnapshotError) {
        try bytes.withUnsafeBytes { (raw) throws(SnapshotError) in try emit(raw) }
    }

    private func emit(_ bytes: UnsafeRawBufferPointer) throws(SnapshotError) {
        try sink(bytes)
        offset += UInt64(bytes.count)
    }
}

extension SnapshotHeader {
    /// Whether this is the header of a snapshot of that state.
    func agrees(with state: RegionState) -> Bool {
        state.applied == index && state.appliedTerm == term && state.epoch == epoch
    }
}
