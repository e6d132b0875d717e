// Writing: records are gathered into a frame, a full frame is compressed and handed on.
//
//   state, pairs ──▶ frame of about frameBytes ──FramePress.swift──▶ sink
//
// Where the bytes go is the sink's matter: a file, or a peer.

import UkehiBase
package import UkehiEnvironment

/// How a snapshot is written; readers need to know nothing of it.
package struct SnapshotOptions: Sendable {
    /// A frame ends before the record that would make it larger, unless that is its only one. Small
    /// ones resume more closely, large ones compress better.
    package var frameBytes = 1 << 20
    /// zstd's level, 1 to 19. Above the first, what is saved costs more than a disk or a network
    /// takes for it, and values that are sealed or compressed already cost several times as much.
    package var compressionLevel = 1
    /// Compresses and writes while the next frame is filled; nil: the encoder's own thread. It must run
    /// by itself: the encoder waits for it. Who makes snapshots of one region after another, or of
    /// several, may use one for all.
    package var compressingWorker: (any Worker)?

    package init(compressingWorker: (any Worker)? = nil) {
        self.compressingWorker = compressingWorker
    }
}

/// Makes the bytes of one snapshot: the same for the same state, header, options and version of zstd.
package final class SnapshotEncoder {
    /// Takes the bytes in order, on the encoder's thread or its worker, one call at a time; the pointer
    /// is valid only during the call.
    package typealias Sink = (UnsafeRawBufferPointer) throws(SnapshotError) -> Void

    private let frameBytes: Int
    private let press: FramePress
    private var spare: RawFrame
    private var frame: FrameContent
    private var rawBytes: UInt64 = 0
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
        press = FramePress(header: checksum, options: options, sink: sink)
        spare = press.emptyFrame()
        frame = FrameContent(header.keyRange, state, capacity: options.frameBytes + 4096)
        try press.begin(bytes)
    }

    /// Adds a session as a store has it; ascending, before the pairs.
    func appendSession(_ entry: StoredEntry) throws(SnapshotError) {
        if frame.isFull(for: SnapshotRecord.sessionByteCount(entry.value), frameBytes) {
            try endFrame()
        }
        if let fault = frame.addSession(entry) { throw .refused("\(fault)") }
    }

    /// Adds a pair; in key order.
    package func append(_ entry: StoredEntry) throws(SnapshotError) {
        if frame.isFull(for: SnapshotRecord.byteCount(entry), frameBytes) { try endFrame() }
        if let fault = frame.add(entry) { throw .refused("\(fault)") }
    }

    /// Writes what is left and the footer; no call may follow.
    package func finish() throws(SnapshotError) -> SnapshotFooter {
        invariant(!isFinished, "a snapshot is finished once")
        isFinished = true
        if let fault = frame.faultAtEnd { throw .refused("\(fault)") }
        if frame.records > 0 { try endFrame() }
        return try press.finish()
    }

    /// Returns when the sink is called no more: before what it writes to is taken away unfinished.
    package func abandon() { press.drain() }

    private func endFrame() throws(SnapshotError) {
        rawBytes += UInt64(frame.raw.count)
        frame.exchange(with: spare)
        spare = try press.handOver(spare)
        onFrame(rawBytes)
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
        order = SnapshotOrder(range, state)
        SnapshotRecord.append(state, to: &raw)
    }

    func isFull(for byteCount: Int, _ frameBytes: Int) -> Bool {
        records > 0 && raw.count + byteCount > frameBytes
    }

    /// Why the session cannot be in the snapshot; nil once it is.
    mutating func addSession(_ entry: StoredEntry) -> String? {
        guard let session = SessionKey.session(entry.key) else { return "a session has no name" }
        if let fault = order.fault(ofSession: session, entry.value) { return fault }
        SnapshotRecord.append(session: session, entry.value, to: &raw)
        records += 1
        return nil
    }

    var faultAtEnd: String? { order.faultBehindSessions }

    /// Why the pair cannot be in the snapshot; nil once it is.
    mutating func add(_ entry: StoredEntry) -> String? {
        if let fault = order.fault(of: entry) { return fault }
        SnapshotRecord.append(entry, to: &raw)
        records += 1
        return nil
    }

    /// Moves what was gathered to `other`, which is empty.
    mutating func exchange(with other: RawFrame) {
        swap(&raw, &other.raw)
        other.records = records
        records = 0
    }
}
