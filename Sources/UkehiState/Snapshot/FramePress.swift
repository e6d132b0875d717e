// Frames are compressed and written behind the back of whoever fills them.
//
//   encoder: fills a frame ──handOver──▶ press: compresses it, checksums it, sink ──▶ back, empty
//
// With a worker both go on at the same time, so that a snapshot takes as long as the slower of reading
// the store and zstd, not as long as both; where the worker falls behind, the encoder's thread compresses
// a frame in place of waiting, and hands it over so. Without a worker a frame is pressed before the next
// is filled, by the same code. The bytes are the same: frames are written one after another, in order.
//
// Memory: `framesInAll` frames, before compression and after it, or one of a large value.

import UkehiBase
import UkehiEnvironment

/// A frame's records, and what zstd made of them.
final class RawFrame: @unchecked Sendable {
    // Safety: used by who holds it: its encoder, then the press, then its encoder again.
    var raw: ByteWriter
    var records = 0
    private var target = UnsafeMutableRawBufferPointer(start: nil, count: 0)
    private var storedCount: Int?

    init(capacity: Int) { raw = ByteWriter(chunkCapacity: capacity) }

    deinit { target.deallocate() }

    /// Compresses the records, unless that was done.
    func compress(with compressor: ZstdCompressor) {
        guard storedCount == nil else { return }
        raw.withUnsafeBytes { storedCount = compressor.compress($0, into: &target) }
    }

    /// The records compressed.
    var stored: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(rebasing: target[..<(storedCount ?? 0)])
    }

    /// Forgets all but its room.
    func clear() {
        raw.discard()
        storedCount = nil
    }
}

/// Makes a snapshot's bytes of its frames.
///
/// Used by one thread, and by the worker through this class alone. That thread calls ``drain()`` before what
/// the sink writes to goes away.
final class FramePress: @unchecked Sendable {
    // Safety: `free`, `pressed` and `failure` are behind `lock`. The rest is used by one frame's press at a
    // time, and by the encoder's thread before the first and after `drain`, which `lock` puts in order.

    /// One is filled, one pressed, and two lie between, so that neither waits for a moment's delay of the
    /// other, nor while one is compressed by the encoder's thread.
    private static let framesInAll = 4
    /// With so many handed over the worker is behind.
    private static let framesBehind = 2

    private let headerChecksum: UInt32
    private let compressor: ZstdCompressor
    /// The encoder's thread has its own.
    private lazy var helper = ZstdCompressor(level: level)
    private let level: Int
    private let worker: (any Worker)?
    private let sink: SnapshotEncoder.Sink
    private let capacity: Int
    private var offset: UInt64 = 0
    private(set) var totals: SnapshotFooter

    private let lock = Lock()
    private let hasPressed = Condition()
    private var free: [RawFrame] = []
    private var pressing = 0
    private var failure: SnapshotError?

    init(
        header: UInt32, options: SnapshotOptions, sink: @escaping SnapshotEncoder.Sink
    ) {
        headerChecksum = header
        level = options.compressionLevel
        compressor = ZstdCompressor(level: level)
        worker = options.compressingWorker
        capacity = options.frameBytes + 4096
        self.sink = sink
        totals = SnapshotFooter(header: header)
    }

    func emptyFrame() -> RawFrame { RawFrame(capacity: capacity) }

    /// Takes a full frame, and gives an empty one for it; waits while there is none. One of a large value is
    /// pressed alone, and its room not kept: four of them would be 100 MiB.
    ///
    /// - Throws: What became of this frame or one before it: nothing more is written then.
    func handOver(_ frame: RawFrame) throws(SnapshotError) -> RawFrame {
        if frame.raw.count > 2 * capacity {
            drain()
            if let failure = lock.withLock({ failure }) { throw failure }
            try press(frame)
            return emptyFrame()
        }
        guard let worker else {
            try press(frame)
            frame.clear()
            return frame
        }
        let isBehind = lock.withLock {
            pressing += 1
            return pressing > Self.framesBehind
        }
        if isBehind { frame.compress(with: helper) }
        worker.run { [self] in
            var failed = lock.withLock { failure }
            if failed == nil {
                do throws(SnapshotError) {
                    try press(frame)
                } catch {
                    failed = error
                }
            }
            frame.clear()
            lock.withLock {
                failure = failed
                pressing -= 1
                free.append(frame)
                hasPressed.signal()
            }
        }
        return try lock.withLock { () throws(SnapshotError) in
            while pressing >= Self.framesInAll { hasPressed.wait(lock) }
            if let failure { throw failure }
            return free.popLast() ?? emptyFrame()
        }
    }

    /// Returns when every frame was pressed that was handed over.
    func drain() {
        lock.withLock {
            while pressing > 0 { hasPressed.wait(lock) }
        }
    }

    /// Writes the header, before the first frame.
    func begin(_ header: Bytes) throws(SnapshotError) { try emit(header) }

    /// Writes the footer, once all frames are written.
    func finish() throws(SnapshotError) -> SnapshotFooter {
        drain()
        if let failure = lock.withLock({ failure }) { throw failure }
        try emit(totals.encoded(header: headerChecksum))
        return totals
    }

    private func press(_ frame: RawFrame) throws(SnapshotError) {
        frame.compress(with: compressor)
        let stored = frame.stored
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
    }

    private func emit(_ bytes: Bytes) throws(SnapshotError) {
        try bytes.withUnsafeBytes { (raw) throws(SnapshotError) in try emit(raw) }
    }

    private func emit(_ bytes: UnsafeRawBufferPointer) throws(SnapshotError) {
        try sink(bytes)
        offset += UInt64(bytes.count)
    }
}
