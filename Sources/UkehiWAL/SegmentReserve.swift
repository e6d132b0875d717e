// Room for one more start, kept in a file of the log's directory.
//
// Each start begins a segment, and a full volume has no room for it: a node that could still have
// answered reads and taken deletes would end, be started again, and end again. So a small file lies
// ready, made by the preparer, and a start that finds no room for a whole segment takes a short one
// out of it:
//
//   made    `reserve` created -> blocks reserved -> size and name synced
//   used    renamed to next.tmp -> directory synced -> cut to half -> activated as any other segment
//
// The other half goes back to the volume, where the state store has to write a little to open. What the
// newest segment had left is given back by the same start, and the preparer makes another reserve of
// that, a smaller one if need be. A start that ends before the preparer has run leaves none: on a full
// volume each later one fails (docs/decisions/0024). Once a start finds room for a whole segment, a small reserve makes way for a whole one.

import UkehiEnvironment

/// What the next start has if it finds no room on the volume.
enum SegmentReserve: Sendable, Hashable {
    case ready(byteCount: Int)
    case missing
    /// The file system reserves no blocks, so that a file of a size would promise nothing.
    case impossible

    var byteCount: Int { if case .ready(let byteCount) = self { byteCount } else { 0 } }
}

extension SegmentStore {
    /// Bytes of a whole reserve; smaller ones are halves of it, and halves of these.
    var reserveBytes: Int {
        max(options.segmentBytes / 4, 2 * WALLimits.minSegmentBytes) & ~(FrameFormat.blockBytes - 1)
    }
    /// What a reserve has, and a segment made of one, from the whole down to what a segment must have.
    private var reserveSizes: [Int] {
        var sizes = [reserveBytes]
        while let last = sizes.last, sizes.count < 7, last / 2 >= WALLimits.minSegmentBytes {
            sizes.append(last / 2 & ~(FrameFormat.blockBytes - 1))
        }
        return sizes
    }

    /// What is there of an earlier process. What is not whole is removed; one that a start took and did
    /// not come to activate is put back.
    func findReserve() throws(FileError) -> SegmentReserve {
        let path = path(LogNames.reserve)
        if let bytes = try size(path) {
            if reserveSizes.contains(bytes) { return .ready(byteCount: bytes) }
            try fileSystem.remove(path)
        }
        guard let bytes = try size(self.path(LogNames.next)), reserveSizes.contains(bytes) else {
            return .missing
        }
        try fileSystem.rename(self.path(LogNames.next), to: path)
        try fileSystem.syncDirectory(directory)
        return .ready(byteCount: bytes)
    }

    private func size(_ path: String) throws(FileError) -> Int? {
        guard fileSystem.exists(path) else { return nil }
        let file = try fileSystem.open(path, .read)
        defer { file.close() }
        return Int(clamping: try file.size())
    }

    /// Makes the largest reserve that there is room for, durably.
    ///
    /// - Returns: `.missing` where there is no room or no descriptor for any, and nothing is taken.
    func makeReserve() throws(FileError) -> SegmentReserve {
        // What is too small to be cut is of use only to a start that has it already.
        for bytes in reserveSizes where bytes >= 2 * WALLimits.minSegmentBytes {
            let made = try makeReserve(byteCount: bytes)
            if made != .missing { return made }
        }
        return .missing
    }

    private func makeReserve(byteCount: Int) throws(FileError) -> SegmentReserve {
        let path = path(LogNames.reserve)
        var opened: (any File)?
        do throws(FileError) {
            let file = try fileSystem.open(path, .createNew)
            opened = file
            try file.allocate(byteCount: UInt64(byteCount))
            try file.sync()
            file.close()
            try fileSystem.syncDirectory(directory)
            return .ready(byteCount: byteCount)
        } catch {
            guard error.isShortage || error.kind == .unsupported else { throw error }
            if let opened {
                opened.close()
                try? fileSystem.remove(path)
            }
            return error.isShortage ? .missing : .impossible
        }
    }

    /// The next segment's file, as ``createNext()`` makes it, or a short one out of the reserve where
    /// the volume has no room for that.
    func createNext(orFrom reserve: inout SegmentReserve) throws(FileError) -> SegmentFile {
        do throws(FileError) {
            let whole = try createNext()
            if case .ready(let bytes) = reserve, bytes < reserveBytes {
                try fileSystem.remove(path(LogNames.reserve))
                reserve = .missing
            }
            return whole
        } catch {
            guard error.kind == .noSpace, case .ready(let bytes) = reserve else { throw error }
            reserve = .missing
            return try takeReserve(byteCount: bytes)
        }
    }

    private func takeReserve(byteCount: Int) throws(FileError) -> SegmentFile {
        let path = path(LogNames.next)
        try fileSystem.rename(self.path(LogNames.reserve), to: path)
        try fileSystem.syncDirectory(directory)
        let file = try fileSystem.open(path, .readWrite)
        let half = byteCount / 2 & ~(FrameFormat.blockBytes - 1)
        let capacity = UInt64(reserveSizes.contains(half) ? half : byteCount)
        try file.truncate(to: capacity)
        // Its size must be durable before a frame is, as that of any segment.
        try file.sync()
        return segment(file, capacity: capacity, isAllocated: true)
    }
}
