// Room for one more start, kept in a file of the log's directory.
//
// Each start begins a segment, and a full volume has no room for it: a node that could still have
// answered reads and taken deletes would end, be started again, and end again. So a small file lies
// ready, and a start that finds no room for a whole segment takes a short one out of it:
//
//   made    `reserve` created -> blocks reserved -> cut to half -> size and name synced
//   used    renamed to next.tmp -> directory synced -> cut to half -> activated as any other segment
//
// The halves stay free on the volume, where the state store has to write a little to open. A start
// makes the reserve for the one after it before it returns, out of what the segment before had left:
// wherever it ends, there is a reserve, or there is free what makes one. The preparer enlarges one
// that is not whole (docs/decisions/0024).

import UkehiEnvironment

/// What the next start has if it finds no room on the volume.
enum SegmentReserve: Sendable, Hashable {
    case ready(byteCount: Int)
    case missing
    /// The file system reserves no blocks, so that a file of a size would promise nothing.
    case impossible

    var byteCount: Int { if case .ready(let byteCount) = self { byteCount } else { 0 } }
}

/// The segment that a start begins with.
struct FirstSegment {
    var file: SegmentFile
    /// Why it is a short one.
    var shortage: FileError?
}

extension SegmentStore {
    /// Bytes of a whole reserve; smaller ones are halves of it, and halves of these.
    var reserveBytes: Int {
        max(options.segmentBytes / 4, 2 * WALLimits.minSegmentBytes) & ~(FrameFormat.blockBytes - 1)
    }

    /// What is there of an earlier process, at most a whole one; also one that a start took and did not
    /// come to activate. What is too small for a segment, or has no blocks, is removed.
    func findReserve() throws(FileError) -> SegmentReserve {
        for name in [LogNames.reserve, LogNames.next] where fileSystem.exists(path(name)) {
            if name == LogNames.next, try isWholeSegment(path(name)) { break }
            guard let kept = try keepReserve(path(name)) else { continue }
            if name != LogNames.reserve {
                try fileSystem.rename(path(name), to: path(LogNames.reserve))
                try fileSystem.syncDirectory(directory)
            }
            return kept
        }
        return .missing
    }

    /// Whether a file is a segment that was made ready: what it takes is what the next one needs.
    private func isWholeSegment(_ path: String) throws(FileError) -> Bool {
        let file = try fileSystem.open(path, .read)
        defer { file.close() }
        return try file.size() >= UInt64(options.segmentBytes)
    }

    /// Makes a file what a reserve may be; nil: it cannot be one, and is gone.
    private func keepReserve(_ path: String) throws(FileError) -> SegmentReserve? {
        let file = try fileSystem.open(path, .readWrite)
        defer { file.close() }
        let bytes = Int(clamping: try file.size())
        let usable = min(bytes, reserveBytes) & ~(FrameFormat.blockBytes - 1)
        do throws(FileError) {
            if usable >= WALLimits.minSegmentBytes {
                if usable < bytes { try file.truncate(to: UInt64(usable)) }
                // It has them, unless it is a copy that somebody made without.
                try file.allocate(byteCount: UInt64(usable))
                try file.sync()
                return .ready(byteCount: usable)
            }
        } catch {
            guard error.isShortage || error.kind == .unsupported else { throw error }
        }
        try fileSystem.remove(path)
        return nil
    }

    /// Makes the largest reserve that leaves as much again on the volume, durably, or enlarges `reserve`
    /// to it.
    ///
    /// - Parameter freeBytes: What the volume has free. Nothing larger is tried.
    /// - Returns: `reserve` as it was where there is no room or no descriptor for more.
    func makeReserve(
        _ reserve: SegmentReserve = .missing, within freeBytes: UInt64 = .max
    ) throws(FileError) -> SegmentReserve {
        var bytes = reserveBytes
        // What is too small to be cut is of use only to a start that has it already.
        while bytes > reserve.byteCount, bytes >= 2 * WALLimits.minSegmentBytes {
            if UInt64(2 * bytes - reserve.byteCount) <= freeBytes,
                let made = try makeReserve(byteCount: bytes, from: reserve.byteCount)
            {
                return made
            }
            bytes = bytes / 2 & ~(FrameFormat.blockBytes - 1)
        }
        return reserve
    }

    /// nil: there is no room or no descriptor for it, and nothing has changed.
    private func makeReserve(
        byteCount: Int, from oldBytes: Int
    ) throws(FileError) -> SegmentReserve? {
        let path = path(LogNames.reserve)
        var opened: (any File)?
        do throws(FileError) {
            let file = try fileSystem.open(path, oldBytes == 0 ? .createNew : .readWrite)
            opened = file
            try file.allocate(byteCount: UInt64(2 * byteCount))
            try file.truncate(to: UInt64(byteCount))
            try file.sync()
            file.close()
        } catch {
            // Somebody has removed it, for its space.
            if oldBytes > 0, error.kind == .notFound { return .missing }
            guard error.isShortage || error.kind == .unsupported else { throw error }
            if let opened {
                // It may have got a part of its blocks.
                if oldBytes > 0 { try opened.truncate(to: UInt64(oldBytes)) }
                opened.close()
                if oldBytes == 0 { try fileSystem.remove(path) }
            }
            return error.isShortage ? nil : .impossible
        }
        // Whatever a failure of this one says: names of others, too, may be lost by it.
        if oldBytes == 0 { try fileSystem.syncDirectory(directory) }
        return .ready(byteCount: byteCount)
    }

    /// The file of the segment that a start begins with, as ``createNext(byteCount:)`` makes it; where
    /// the volume has no room for a whole one a short one, of `reserve` or of what is free.
    ///
    /// - Parameter freeSpace: Gives back what older segments take and do not need; whether that is anything.
    func createFirst(
        orFrom reserve: inout SegmentReserve, freeSpace: () throws(FileError) -> Bool
    ) throws(FileError) -> FirstSegment {
        var shortage: FileError
        repeat {
            do throws(FileError) {
                return FirstSegment(file: try createNext(byteCount: options.segmentBytes))
            } catch {
                shortage = error
            }
            guard shortage.kind == .noSpace else { throw shortage }
        } while try freeSpace()
        if reserve == .missing { reserve = try makeReserve() }
        if case .ready(let bytes) = reserve {
            reserve = .missing
            return FirstSegment(file: try takeReserve(byteCount: bytes), shortage: shortage)
        }
        return FirstSegment(
            file: try createNext(byteCount: WALLimits.minSegmentBytes), shortage: shortage)
    }

    private func takeReserve(byteCount: Int) throws(FileError) -> SegmentFile {
        let path = path(LogNames.next)
        try fileSystem.rename(self.path(LogNames.reserve), to: path)
        try fileSystem.syncDirectory(directory)
        let file = try fileSystem.open(path, .readWrite)
        let half = byteCount / 2 & ~(FrameFormat.blockBytes - 1)
        let capacity = UInt64(half >= WALLimits.minSegmentBytes ? half : byteCount)
        try file.truncate(to: capacity)
        // Its size must be durable before a frame is, as that of any segment.
        try file.sync()
        return segment(file, capacity: capacity, isAllocated: true)
    }
}
