// Why the state could not do what was asked.

/// A failure of a state store or state machine. Commands at fault are not here: they are results.
public struct StateError: Error, Hashable, Sendable, CustomStringConvertible {
    /// A struct over a private enum, so that a new kind breaks no embedder's `switch`.
    public struct Code: Hashable, Sendable, CustomStringConvertible {
        private enum Kind: String {
            case corrupted, ioFailed, diskFull, locked, newerFormat, unreadableEntry
            case unknownRegion, outsideRegion, unsupported, wouldBlock, stalled, closed
        }
        private let kind: Kind
        private init(_ kind: Kind) { self.kind = kind }
        public var description: String { kind.rawValue }

        /// Stored data fails its checks: the regions it holds are damaged.
        public static var corrupted: Self { .init(.corrupted) }
        /// The store's disk failed; the node must stop.
        public static var ioFailed: Self { .init(.ioFailed) }
        /// No space is left for the store; the node must stop.
        public static var diskFull: Self { .init(.diskFull) }
        /// Another process has the store open.
        public static var locked: Self { .init(.locked) }
        /// The store, or an entry, was written by a later version.
        public static var newerFormat: Self { .init(.newerFormat) }
        /// A committed entry is not one that this program writes; it was not applied.
        public static var unreadableEntry: Self { .init(.unreadableEntry) }
        /// The region is not open here.
        public static var unknownRegion: Self { .init(.unknownRegion) }
        /// The key does not belong to the region.
        public static var outsideRegion: Self { .init(.outsideRegion) }
        /// The region's state machine has no such read.
        public static var unsupported: Self { .init(.unsupported) }
        /// The read needs the disk and was not allowed to.
        public static var wouldBlock: Self { .init(.wouldBlock) }
        /// The store refuses writes until it has caught up; nothing was written, try again.
        public static var stalled: Self { .init(.stalled) }
        /// The store was closed.
        public static var closed: Self { .init(.closed) }
    }
    /// The kind of failure.
    public var code: Code
    /// The effect, the cause and what to do, for an operator. Never contains keys or values.
    public var message: String

    public init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }
    public var description: String { message }
}
