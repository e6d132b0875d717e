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
    private var frame: FrameContent
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
        totals = SnapshotFooter(header: checksum)
        frame = FrameContent(header.keyRange, state, capacity: options.frameBytes + 4096)
        try emit(bytes)
    }

    /// Adds a pair; in key order.
    package func append(_ entry: StoredEntry) throws(SnapshotError) {
        if frame.isFull(for: entry, frameBytes) { try endFrame() }
        if let fault = frame.add(entry) { throw .refused("\(fault)") }
    }

    /// Writes what is left and the footer; no call may follow.
    package func finish() throws(SnapshotError) -> SnapshotFooter {
        invariant(!isFinished, "a snapshot is finished once")
        isFinished = true
        if frame.records > 0 { try endFrame() }
        try emit(totals.encoded(header: headerChecksum))
        return totals
    }

    private func endFrame() throws(SnapshotError) {
        let compressor = compressor
        let stored = frame.raw.withUnsafeBytes { compressor.compress($0) }
        let number = totals.frames
        var info = SnapshotFrameInfo(
            number: number, offset: offset, rawBytes: frame.raw.count, storedBytes: stored.count,
            records: frame.records, checksum: 0,
            storedChecksum: CRC32C.checksum(
                stored, seed: SnapshotFormat.seed(of: number, header: headerChecksum)))
        var header = ByteWriter(chunkCapacity: SnapshotFormat.frameHeaderBytes)
        info.encode(into: &header, header: headerChecksum)
        totals.add(info)
        try emit(header.take())
        try emit(stored)
        frame.clear()
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

/// The records that are gathered for a frame. A value, so that a pair costs the encoder one look at its own
/// memory, not one for each field.
private struct FrameContent: ~Copyable {
    private(set) var raw: ByteWriter
    private(set) var records = 1
    private var order: SnapshotOrder

    init(_ range: KeyRange, _ state: RegionState, capacity: Int) {
        raw = ByteWriter(chunkCapacity: capacity)
        order = SnapshotOrder(range, revision: state.revision)
        SnapshotRecord.append(state, to: &raw)
    }

    func isFull(for entry: StoredEntry, _ frameBytes: Int) -> Bool {
        records > 0 && raw.count + SnapshotRecord.byteCount(entry) > frameBytes
    }

    /// Why the pair cannot be in the snapshot; nil once it is.
    mutating func add(_ entry: StoredEntry) -> String? {
        if let fault = order.fault(of: entry) { return fault }
        SnapshotRecord.append(entry, to: &raw)
        records += 1
        return nil
    }

    mutating func clear() {
        raw.discard()
        records = 0
    }
}
