//! Chores of the repository. Its tests check the house's shape (`tests/`); the program itself names the commands.

fn main() {
    println!("The tests of this package check the shape of the house: cargo test --release -p xtask.");
    println!("Commands: make help.");
}
