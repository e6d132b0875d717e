// Reading: a frame at a time, each checked in full before any of it is given out.
//
//   header ──▶ next() ──▶ frame ──▶ ... ──▶ next() = nil: the footer agreed, nothing follows it
//                 ▲
//           skip(to: n) goes by the frames' headers alone
//
// Invariant: what is given out is what was written, or an error is thrown; a snapshot counts only once
// `next` has returned nil. Memory: one frame, stored and decompressed.

package import UkehiBase
package import UkehiEnvironment

/// One frame's records, checked.
package struct SnapshotFrame: Sendable {
    package let info: SnapshotFrameInfo
    /// The region's state; in frame 0 and no other.
    package let state: RegionState?
    /// All records as they were before compression.
    package let raw: Bytes

    fileprivate init(_ info: SnapshotFrameInfo, state: RegionState?, raw: Bytes) {
        self.info = info
        self.state = state
        self.raw = raw
    }

    /// Visits the sessions, ascending; the pointers are valid only during the visit.
    package func forEachSession<E: Error>(
        _ visit: (_ session: UInt64, _ value: UnsafeRawBufferPointer) throws(E) -> Void
    ) throws(E) {
        try raw.withUnsafeBytes { raw throws(E) in
            var offset = 0
            while offset < raw.count, let item = SnapshotRecord.next(raw, &offset) {
                switch item {
                case .state: continue
                case .session(let session, let value): try visit(session, value)
                // None follows a pair.
                case .pair: return
                }
            }
        }
    }

    /// Visits the pairs in key order; the pointers are valid only during the visit.
    package func forEachPair<E: Error>(
        _ visit: (StoredEntry) throws(E) -> Void
    ) throws(E) {
        try raw.withUnsafeBytes { raw throws(E) in
            var offset = 0
            while offset < raw.count, let item = SnapshotRecord.next(raw, &offset) {
                if case .pair(let entry) = item { try visit(entry) }
            }
        }
    }
}

/// Reads one snapshot file, front to back. Used by one thread at a time.
package final class SnapshotFileReader {
    package let header: SnapshotHeader
    package let headerBytes: Int
    package let fileBytes: UInt64
    /// Where the next frame, or the footer, begins.
    package private(set) var offset: UInt64
    /// What was read or skipped so far.
    package private(set) var totals: SnapshotFooter

    /// Told of each frame that was given out, by where it ends; what it throws ends the reading.
    package var onFrame: (_ offset: UInt64) throws(SnapshotError) -> Void = {
        _ throws(SnapshotError) in
    }

    private let file: any File
    private let headerChecksum: UInt32
    private let decompressor = ZstdDecompressor()
    private var stored = UnsafeMutableRawBufferPointer(start: nil, count: 0)
    private var order: SnapshotOrder
    private var isAtEnd = false

    /// Reads the header. The file stays the caller's to close.
    package init(_ file: any File) throws(SnapshotError) {
        self.file = file
        do throws(FileError) {
            fileBytes = try file.size()
        } catch {
            throw SnapshotError(error, doing: "The snapshot was not read")
        }
        let fixed = try Self.read(
            file, SnapshotFormat.fixedHeaderBytes, at: 0, of: fileBytes, "in its header")
        let count = try SnapshotHeader.byteCount(fixed)
        let bytes = try Self.read(file, count, at: 0, of: fileBytes, "in its header")
        (header, headerChecksum) = try SnapshotHeader.decode(bytes)
        headerBytes = count
        offset = UInt64(count)
        totals = SnapshotFooter(header: headerChecksum)
        order = SnapshotOrder(header.keyRange, nil)
    }

    deinit { stored.deallocate() }

    /// The next frame; nil at the end, once the footer has agreed with all that came before it.
    package func next() throws(SnapshotError) -> SnapshotFrame? {
        guard let info = try nextInfo() else { return nil }
        let frame = try open(info)
        pass(info)
        try onFrame(offset)
        return frame
    }

    /// Goes on at frame `number`, at or past the next one: those between are known by their headers
    /// alone, and only the footer's sums tell of them.
    ///
    /// - Throws: ``SnapshotError``; `.truncated` if the snapshot has no such frame.
    package func skip(to number: UInt64) throws(SnapshotError) {
        invariant(number >= totals.frames, "a reader at \(totals.frames) skips to \(number)")
        while totals.frames < number {
            guard try skipFrame() != nil else {
                throw .truncated(
                    "it has \(totals.frames) frames, and none with number \(number)", frame: nil,
                    offset: offset)
            }
        }
    }

    /// Passes over the next frame by its header alone; nil at the end, as ``next()``.
    package func skipFrame() throws(SnapshotError) -> SnapshotFrameInfo? {
        guard let info = try nextInfo() else { return nil }
        pass(info)
        // Nothing is known of the keys before, nor of the region's revision.
        order = SnapshotOrder(header.keyRange, nil)
        return info
    }

    private func pass(_ info: SnapshotFrameInfo) {
        totals.add(info)
        offset = info.end
    }

    // MARK: Frames

    /// The header of the next frame; nil behind the last.
    private func nextInfo() throws(SnapshotError) -> SnapshotFrameInfo? {
        guard !isAtEnd else { return nil }
        let place =
            totals.frames == 0 ? "before its first frame" : "behind frame \(totals.frames - 1)"
        let magic = try Self.read(file, 4, at: offset, of: fileBytes, place)
        guard magic.withUnsafeBytes({ $0.u32(at: 0) }) == SnapshotFormat.footerMagic else {
            let bytes = try Self.read(
                file, SnapshotFormat.frameHeaderBytes, at: offset, of: fileBytes,
                "in the header of frame \(totals.frames)")
            let info = try bytes.withUnsafeBytes { (raw) throws(SnapshotError) in
                try SnapshotFrameInfo.decode(
                    raw, number: totals.frames, offset: offset, header: headerChecksum)
            }
            guard info.end <= fileBytes else {
                throw .truncated(
                    "it ends in frame \(info.number)", frame: info.number, offset: info.offset)
            }
            return info
        }
        try readFooter()
        return nil
    }

    private func readFooter() throws(SnapshotError) {
        let bytes = try Self.read(
            file, SnapshotFormat.footerBytes, at: offset, of: fileBytes, "in its footer")
        try bytes.withUnsafeBytes { (raw) throws(SnapshotError) in
            try totals.check(raw, offset: offset, header: headerChecksum)
        }
        guard totals.frames > 0 else {
            throw .damaged("it has no frames", frame: nil, offset: offset)
        }
        if let fault = order.faultBehindSessions {
            throw .damaged(fault, frame: nil, offset: offset)
        }
        let end = offset + UInt64(SnapshotFormat.footerBytes)
        guard end == fileBytes else {
            throw .damaged("\(fileBytes - end) bytes follow its footer", frame: nil, offset: end)
        }
        isAtEnd = true
    }

    /// Reads, checks and decompresses a frame, and checks its records.
    private func open(_ info: SnapshotFrameInfo) throws(SnapshotError) -> SnapshotFrame {
        func damaged(_ reason: String) -> SnapshotError {
            .damaged(reason, frame: info.number, offset: info.offset)
        }
        if stored.count < info.storedBytes {
            stored.deallocate()
            stored = .allocate(byteCount: info.storedBytes, alignment: 16)
        }
        let target = UnsafeMutableRawBufferPointer(rebasing: stored[..<info.storedBytes])
        let place = info.offset + UInt64(SnapshotFormat.frameHeaderBytes)
        try Self.fill(target, from: file, at: place, "in frame \(info.number)")
        let bytes = UnsafeRawBufferPointer(target)
        let seed = SnapshotFormat.seed(of: info.number, header: headerChecksum)
        guard CRC32C.checksum(bytes, seed: seed) == info.storedChecksum else {
            throw damaged("the frame's bytes fail their checksum")
        }
        var isWhole = false
        let raw = Bytes(count: info.rawBytes) { room in
            isWhole = decompressor.decompress(bytes, into: room)
            return isWhole ? room.count : 0
        }
        guard isWhole else {
            throw damaged(
                "the frame is not a zstd frame of the \(info.rawBytes) bytes that it claims")
        }
        var state: RegionState?
        let fault = raw.withUnsafeBytes { check($0, info, &state) }
        if let fault { throw damaged(fault) }
        return SnapshotFrame(info, state: state, raw: raw)
    }

    /// Why the records are not what they must be.
    private func check(
        _ raw: UnsafeRawBufferPointer, _ info: SnapshotFrameInfo, _ state: inout RegionState?
    ) -> String? {
        var offset = 0
        var records = 0
        while offset < raw.count {
            guard let item = SnapshotRecord.next(raw, &offset) else {
                return "record \(records) of the frame is malformed"
            }
            let isStatePlace = info.number == 0 && records == 0
            records += 1
            switch item {
            case .state(let place):
                guard isStatePlace else { return "a second state of the region" }
                let bytes = Bytes(copying: UnsafeRawBufferPointer(rebasing: raw[place]))
                guard let decoded = try? RegionState.decode(bytes, region: header.region),
                    header.agrees(with: decoded)
                else { return "the region's state is unreadable or not the header's" }
                if let fault = SnapshotHeader.fault(of: decoded) { return fault }
                state = decoded
                order = SnapshotOrder(header.keyRange, decoded)
            case .session(let session, let value):
                guard !isStatePlace else { return "the region's state is missing" }
                if let fault = order.fault(ofSession: session, value) { return fault }
            case .pair(let entry):
                guard !isStatePlace else { return "the region's state is missing" }
                if let fault = order.fault(of: entry) { return fault }
            }
        }
        return records == info.records
            ? nil : "the frame holds \(records) records and claims \(info.records)"
    }

    // MARK: Bytes

    private static func read(
        _ file: any File, _ count: Int, at offset: UInt64, of fileBytes: UInt64, _ place: String
    ) throws(SnapshotError) -> Bytes {
        guard fileBytes >= offset, fileBytes - offset >= UInt64(count) else {
            throw .truncated("it ends \(place)", frame: nil, offset: fileBytes)
        }
        return try Bytes(count: count) { (room) throws(SnapshotError) in
            try fill(room, from: file, at: offset, place)
            return count
        }
    }

    private static func fill(
        _ room: UnsafeMutableRawBufferPointer, from file: any File, at offset: UInt64,
        _ place: String
    ) throws(SnapshotError) {
        let count: Int
        do throws(FileError) {
            count = try file.read(into: room, at: offset)
        } catch {
            throw SnapshotError(error, doing: "The snapshot was not read")
        }
        // It had so many bytes when it was opened.
        guard count == room.count else {
            throw .truncated("it ends \(place)", frame: nil, offset: offset + UInt64(count))
        }
    }
}
