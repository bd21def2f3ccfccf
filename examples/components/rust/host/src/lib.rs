//! Stands in for the host of the greeters, where a host cannot be given one: settings are those of the
//! environment, and lines that are taken down go to standard error. tools/check-components joins it to
//! a greeter.

mod bindings {
    wit_bindgen::generate!({ path: "../../wit", world: "host-component" });
    use super::Component;
    export!(Component);
}

struct Component;

impl bindings::exports::sandgrain::examples::host::Guest for Component {
    fn lookup(key: String) -> Option<String> {
        std::env::var(key).ok()
    }

    fn log(line: String) {
        eprintln!("{line}");
    }
}
