// Why a snapshot could not be written or read, and where.

/// A failure with its place in the snapshot. What was read before it is good, frame by frame, but no
/// snapshot: never install or keep a part.
package struct SnapshotError: Error, Hashable, Sendable, CustomStringConvertible {
    package enum Code: Hashable, Sendable {
        /// Bytes fail their checks: fetch or make the snapshot again.
        case damaged
        /// The snapshot ends before its footer does: its copy was interrupted.
        case truncated
        /// Written by a later version of this program.
        case newerFormat
        /// What the writer was given cannot be in a snapshot: the store is damaged.
        case refused
        case ioFailed
        case diskFull
        /// What was asked for is not there, or there is more than one.
        case notFound
        /// The target is there already.
        case exists
        /// Each is right, and they do not belong together.
        case unfit
        /// Whoever asked for it wants it no more.
        case cancelled
    }
    package var code: Code
    /// The effect, the cause and what to do. Never contains keys or values.
    package var message: String
    /// The frame in which it is; nil: in the header, the footer or the file as such.
    package var frame: UInt64?
    /// In bytes from the start of the snapshot; for a frame that of its header.
    package var offset: UInt64?

    package init(_ code: Code, _ message: String, frame: UInt64? = nil, offset: UInt64? = nil) {
        self.code = code
        self.message = message
        self.frame = frame
        self.offset = offset
    }

    /// The place as an operator reads it: `frame 3, offset 81920`.
    package var place: String? {
        let parts = [frame.map { "frame \($0)" }, offset.map { "offset \($0)" }]
            .compactMap { $0 }
        return parts.isEmpty ? nil : parts.joined(separator: ", ")
    }
    package var description: String { place.map { "\(message) (\($0))" } ?? message }

    static func damaged(_ reason: String, frame: UInt64?, offset: UInt64) -> SnapshotError {
        SnapshotError(
            .damaged,
            "The snapshot is damaged: \(reason). Use another copy, or make the snapshot again.",
            frame: frame, offset: offset)
    }

    static func truncated(_ reason: String, frame: UInt64?, offset: UInt64) -> SnapshotError {
        SnapshotError(
            .truncated,
            "The snapshot is cut short: \(reason). Copy it again, or make it again.",
            frame: frame, offset: offset)
    }

    static func newer(_ what: String) -> SnapshotError {
        SnapshotError(
            .newerFormat,
            "The snapshot was not read: \(what). Use the version of this program that wrote it.",
            offset: 0)
    }

    static func refused(_ reason: String) -> SnapshotError {
        SnapshotError(
            .refused,
            "The snapshot was not written: \(reason). The state store is damaged; rebuild the "
                + "region from its other replicas.")
    }
}
