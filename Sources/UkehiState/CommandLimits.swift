// What a command may weigh, and how it can be at fault.

/// Bounds of one command. Checked before proposing and again where a record is decoded.
public enum CommandLimits {
    /// Longest key: routers, indexes and entries stay small.
    public static let maxKeyBytes = 4 << 10
    /// Largest value.
    public static let maxValueBytes = 8 << 20
    /// Longest opaque header of a record.
    public static let maxHeaderBytes = 4 << 10
    /// Most commands in one batch: bounds the work of judging it before anything is written.
    public static let maxBatchCommands = 1024
    /// Largest record: the largest put with the longest key and header, rounded up. A batch, and
    /// the two values of a compare-and-set, share it.
    public static let maxRecordBytes = maxValueBytes + (16 << 10)
    /// Most commands packed into one entry.
    public static let maxCommandsPerEntry = 256
    /// Most bytes of records packed into one entry, unless one larger record stands alone.
    public static let maxPackedEntryBytes = 1 << 20
}

/// How a command is at fault. It was not applied and would fail in the same way again.
///
/// The raw values travel and never change their meaning.
public enum CommandError: UInt8, Error, Hashable, Sendable, CaseIterable, CustomStringConvertible {
    /// Its bytes are not a command record.
    case malformed = 1
    /// A kind that this version does not know.
    case unknownKind = 2
    /// A flag that this version does not know.
    case unknownFlags = 3
    /// Over ``CommandLimits/maxKeyBytes``.
    case keyTooLong = 4
    /// Over ``CommandLimits/maxValueBytes``.
    case valueTooLarge = 5
    /// Over ``CommandLimits/maxRecordBytes``, or a header over ``CommandLimits/maxHeaderBytes``.
    case recordTooLarge = 6
    /// A range that ends before it starts.
    case emptyRange = 7
    /// A key, or the end of a range, that the region does not own.
    case outsideRegion = 8
    /// An increment of a value that is not a decimal 64-bit integer.
    case notACounter = 9
    /// An increment past what 64 bits hold.
    case counterOverflow = 10
    /// Over ``CommandLimits/maxBatchCommands``, or an empty batch.
    case badBatchSize = 11
    /// A kind that the region's state machine does not carry out, or not in this place.
    case unsupported = 12

    public var description: String {
        switch self {
        case .malformed: "The command's bytes are malformed."
        case .unknownKind: "The command is of a kind that this version does not know."
        case .unknownFlags: "The command has a flag that this version does not know."
        case .keyTooLong: "A key is over \(CommandLimits.maxKeyBytes) bytes."
        case .valueTooLarge: "A value is over \(CommandLimits.maxValueBytes) bytes."
        case .recordTooLarge: "The command is over \(CommandLimits.maxRecordBytes) bytes in all."
        case .emptyRange: "A range ends before it starts."
        case .outsideRegion: "A key or the end of a range lies outside the region."
        case .notACounter: "The value is not a decimal integer and cannot be incremented."
        case .counterOverflow: "The counter would leave the range of 64 bits."
        case .badBatchSize:
            "A batch holds 1 to \(CommandLimits.maxBatchCommands) commands."
        case .unsupported: "The region's state machine does not carry out such a command here."
        }
    }
}
