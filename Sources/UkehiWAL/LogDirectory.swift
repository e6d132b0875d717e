// What files a log's directory holds, and whether they are one log's: read-only, for recovery and
// for the tools.

import UkehiBase
import UkehiEnvironment

/// One segment as found, with a valid header.
struct FoundSegment {
    var id: UInt64
    var file: any File
    var header: SegmentHeader
    /// The file's size.
    var bytes: UInt64
    /// Whether one of the header's two copies is unreadable; the other was taken.
    var lostCopy: Bool
}

/// The segments of a log, consecutive, oldest first.
struct LogDirectory {
    var mark: LogMark?
    var segments: [FoundSegment] = []
    /// Segments before the mark's oldest: removed once, but their names came back.
    var removable: [UInt64] = []

    /// Whether nothing was ever removed from the front, so that replay sees each region's birth.
    var isComplete: Bool { segments.first.map { $0.header.predecessor == 0 } ?? true }

    /// Reads names, mark and headers. Segments are opened for writing if asked for: the newest is written on,
    /// and damaged bodies of all others are written over.
    static func read(
        _ fileSystem: any FileSystem, _ directory: String, forWriting: Bool
    ) throws(WALError) -> LogDirectory {
        let ids = try segmentIDs(fileSystem, directory)
        var found = LogDirectory()
        found.mark = try readMark(fileSystem, directory, segmentCount: ids.count)
        guard let mark = found.mark else { return found }
        found.removable = ids.filter { $0 < mark.oldest }
        let live = ids.filter { $0 >= mark.oldest }
        try checkPresence(live, mark, directory)
        for id in live {
            let mode = forWriting ? OpenMode.readWrite : .read
            found.segments.append(try readSegment(fileSystem, directory, id, mode, mark))
        }
        try found.checkChain()
        return found
    }

    private static func segmentIDs(
        _ fileSystem: any FileSystem, _ directory: String
    ) throws(WALError) -> [UInt64] {
        var ids: [UInt64] = []
        for name in try attempt({ () throws(FileError) in try fileSystem.list(directory) }) {
            if let id = LogNames.segmentID(name) {
                ids.append(id)
            } else if !LogNames.others.contains(name) {
                throw WALError(
                    .identity,
                    "The log was not opened: \(LogNames.join(directory, name)) is not a file of "
                        + "the log. Move it out of the directory.")
            }
        }
        return ids.sorted()
    }

    private static func readMark(
        _ fileSystem: any FileSystem, _ directory: String, segmentCount: Int
    ) throws(WALError) -> LogMark? {
        let path = LogNames.join(directory, LogNames.mark)
        var slot = LogMark.Slot.invalid
        if fileSystem.exists(path) {
            slot = try attempt { () throws(FileError) in
                let file = try fileSystem.open(path, .read)
                defer { file.close() }
                return try LogMark.read(from: file)
            }
        }
        switch slot {
        case .valid(let mark): return mark
        case .newerVersion(let version):
            throw unsupported("\(path) is of version \(version)")
        case .invalid where segmentCount == 0: return nil
        case .invalid:
            throw WALError(
                .corrupted,
                "The log was not opened: \(path), which says what segments there must be, is "
                    + "missing or unreadable. Restore it, or restore the node from its peers.")
        }
    }

    private static func checkPresence(
        _ ids: [UInt64], _ mark: LogMark, _ directory: String
    ) throws(WALError) {
        guard mark.newest > 0 || !ids.isEmpty else { return }
        let first = mark.newest == 0 ? 1 : mark.oldest
        let last = max(mark.newest, ids.last ?? 0)
        var due = first
        for id in ids + [last + 1] {
            guard id == due else {
                let missing = due + 1 == id ? "segment \(due)" : "segments \(due) to \(id - 1)"
                throw WALError(
                    .corrupted,
                    "The log was not opened: \(missing) is missing in \(directory); what was "
                        + "acknowledged in it would be lost. Restore it, or restore the node from "
                        + "its peers.",
                    at: LogPosition(segment: due, offset: 0))
            }
            due += 1
        }
    }

    private static func readSegment(
        _ fileSystem: any FileSystem, _ directory: String, _ id: UInt64, _ mode: OpenMode,
        _ mark: LogMark
    ) throws(WALError) -> FoundSegment {
        let path = LogNames.join(directory, LogNames.segment(id))
        let (file, bytes, block) = try attempt { () throws(FileError) in
            let file = try fileSystem.open(path, mode)
            var block = [UInt8](repeating: 0, count: SegmentFormat.firstFrameOffset)
            let count = try readFully(file, into: &block, at: 0)
            if count < block.count { block = [UInt8](repeating: 0, count: block.count) }
            return (file, try file.size(), block)
        }
        var valid: [SegmentHeader] = []
        for copy in 0..<2 {
            let decoded = block.withUnsafeBytes { bytes in
                bytes.baseAddress.map {
                    SegmentHeader.decode($0 + copy * FrameFormat.blockBytes)
                } ?? .invalid
            }
            switch decoded {
            case .valid(let header): valid.append(header)
            case .newerVersion(let version):
                throw unsupported("\(path) is of version \(version)")
            case .invalid: break
            }
        }
        guard let header = valid.first, valid.allSatisfy({ $0 == header }) else {
            throw WALError(
                .corrupted,
                "The log was not opened: both copies of the header of \(path) are unreadable, so "
                    + "all of the segment would be lost. Restore the file, or restore the node "
                    + "from its peers.",
                at: LogPosition(segment: id, offset: 0))
        }
        guard header.log == mark.log else {
            throw WALError(
                .identity,
                "The log was not opened: \(path) belongs to another log. Put back this node's own "
                    + "file.",
                at: LogPosition(segment: id, offset: 0))
        }
        guard header.segment == id else {
            throw WALError(
                .identity,
                "The log was not opened: \(path) is segment \(header.segment) under another name. "
                    + "Put back the file of this name.",
                at: LogPosition(segment: id, offset: 0))
        }
        guard bytes <= UInt64(UInt32.max) else {
            throw WALError(
                .corrupted,
                "The log was not opened: \(path) has \(bytes) bytes, more than a segment can. "
                    + "Restore the file, or restore the node from its peers.",
                at: LogPosition(segment: id, offset: 0))
        }
        return FoundSegment(
            id: id, file: file, header: header, bytes: bytes, lostCopy: valid.count < 2)
    }

    /// Each header names its predecessor and where it ends; the file must reach that far.
    private func checkChain() throws(WALError) {
        for position in segments.indices {
            let segment = segments[position]
            let stated = segment.header
            let start = UInt64(SegmentFormat.firstFrameOffset)
            let isFirst = segment.id == 1
            guard stated.predecessor == (isFirst ? 0 : segment.id - 1),
                isFirst || stated.predecessorEnd >= start,
                stated.firstLSN > stated.predecessorLastLSN
            else {
                throw WALError(
                    .corrupted,
                    "The log was not opened: the header of segment \(segment.id) names what "
                        + "cannot be its predecessor. Restore the node from its peers.",
                    at: LogPosition(segment: segment.id, offset: 0))
            }
            let isNewest = position == segments.count - 1
            let needed =
                isNewest
                ? (stated.isAllocated ? stated.capacity : start)
                : segments[position + 1].header.predecessorEnd
            guard segment.bytes >= needed else {
                throw WALError(
                    .corrupted,
                    "The log was not opened: segment \(segment.id) was truncated to "
                        + "\(segment.bytes) of \(needed) bytes; what was acknowledged behind that "
                        + "would be lost. Restore the file, or restore the node from its peers.",
                    at: LogPosition(segment: segment.id, offset: segment.bytes))
            }
        }
    }
}

private func unsupported(_ what: String) -> WALError {
    WALError(
        .unsupportedVersion,
        "The log was not opened: \(what), which this version cannot read. Use the newer one.")
}

/// Runs a file operation of opening a log.
func attempt<R>(_ body: () throws(FileError) -> R) throws(WALError) -> R {
    do throws(FileError) { return try body() } catch {
        throw WALError(error, effect: "The log was not opened")
    }
}
