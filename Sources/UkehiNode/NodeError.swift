// Why a node cannot start or go on, as an operator reads it.

/// A node's fatal error. `code` says what kind of help is needed; nothing durable was changed.
public struct NodeError: Error, Sendable, CustomStringConvertible {
    /// A struct over a private enum, so that a new kind breaks no embedder's `switch`.
    public struct Code: Hashable, Sendable {
        private enum Kind {
            case corrupted, ioFailed, diskFull, identity, configuration, unavailable
        }
        private let kind: Kind
        private init(_ kind: Kind) { self.kind = kind }
        /// Stored bytes fail their checks.
        public static var corrupted: Self { .init(.corrupted) }
        /// The disk or the state store failed; what was not acknowledged may be lost.
        public static var ioFailed: Self { .init(.ioFailed) }
        /// No space is left where the log or the state lives.
        public static var diskFull: Self { .init(.diskFull) }
        /// The directory is in use, or belongs to another node, cluster or format.
        public static var identity: Self { .init(.identity) }
        /// The configuration cannot work.
        public static var configuration: Self { .init(.configuration) }
        /// The network or another resource is not to be had.
        public static var unavailable: Self { .init(.unavailable) }

        /// The process exit code that stands for it (docs/OPERATING.md).
        public var exitCode: Int32 {
            switch kind {
            case .corrupted: 20
            case .ioFailed: 21
            case .diskFull: 22
            case .identity: 24
            case .configuration: 78
            case .unavailable: 69
            }
        }
    }
    /// What kind of failure.
    public var code: Code
    /// What happened and what to do. Never contains keys or values.
    public var message: String

    /// An error of a kind with its explanation.
    public init(code: Code, message: String) {
        self.code = code
        self.message = message
    }
    public var description: String { message }
}
