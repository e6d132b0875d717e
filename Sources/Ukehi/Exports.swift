// What `import Ukehi` shows beside this module: the types that its operations take and give.
//
// `@_exported`, since type aliases would still make embedders import the defining module for every
// member they touch (docs/decisions/0005-reexported-modules.md). What is not for them in those
// modules has package access.

@_exported public import UkehiBase
@_exported public import UkehiNode
@_exported public import UkehiState

extension Bytes {
    /// The bytes as text; nil when they are not UTF-8.
    public var text: String? {
        withUnsafeBytes { String(validating: $0, as: UTF8.self) }
    }
}
